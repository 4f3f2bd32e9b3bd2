"""Suites: tasks that are read together, by one name."""

from taid_vlm.common.errors import UserError, did_you_mean

SUITES: dict[str, tuple[str, ...]] = {
    # The eight of the table of vision-language models in TAID's paper, arXiv:2501.16937.
    "openvlm": ("mmbench_v11", "mmstar", "mmmu", "mathvista", "ocrbench", "ai2d", "hallusion_bench", "mm_vet"),
    "vqa": ("vqav2", "gqa", "ok_vqa", "vizwiz", "textvqa", "scienceqa", "realworldqa", "blink", "seed_bench"),
    "hallucination": ("pope", "hallusion_bench", "mme"),
    "documents": ("docvqa", "infovqa", "chartqa", "textvqa", "ocrbench", "ai2d"),
    "captions": ("coco_captions", "flickr30k"),
    "language": (
        *("mmlu", "arc_easy", "arc_challenge", "hellaswag", "gsm8k", "ifeval", "ultrachat", "mt_bench", "chatterbot"),
    ),
    # Minutes on a laptop, from packages that are fetched once.
    "smoke": ("easy_vqa", "chatterbot"),
}


def suite_tasks(name: str) -> list[str]:
    """Names of the tasks of a suite.

    Raises:
        UserError: no such suite.
    """
    if name not in SUITES:
        raise UserError(f"unknown suite {name!r}: {did_you_mean(name, SUITES)}")
    return list(SUITES[name])
