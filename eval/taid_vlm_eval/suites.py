"""Suites: tasks that are read together, by one name."""

from collections.abc import Sequence
from pathlib import Path

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.task import TaskFile
from taid_vlm_eval.task_files import list_tasks

Wanted = str | Path | TaskFile  # a name, the path of a YAML file, or what was read from one

SUITES: dict[str, tuple[str, ...]] = {
    # The eight of the table of vision-language models in TAID's paper, arXiv:2501.16937.
    "openvlm": ("mmbench_v11", "mmstar", "mmmu", "mathvista", "ocrbench", "ai2d", "hallusion_bench", "mm_vet"),
    "vqa": ("vqav2", "gqa", "ok_vqa", "vizwiz", "textvqa", "scienceqa", "realworldqa", "blink", "seed_bench"),
    "hallucination": ("pope", "hallusion_bench", "mme"),
    "documents": ("docvqa", "infovqa", "chartqa", "textvqa", "ocrbench", "ai2d"),
    "captions": ("coco_captions", "flickr30k"),
    "language": (
        *("mmlu", "arc_easy", "arc_challenge", "hellaswag", "lambada_openai", "gsm8k", "ifeval", "ultrachat"),
        *("mt_bench", "chatterbot"),
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


def without_suites(
    tasks: Sequence[Wanted], suites: Sequence[str], tasks_folders: Sequence[str | Path]
) -> tuple[list[Wanted], dict[str, str]]:
    """``tasks``, then the tasks of suites, each once; and why some of a suite cannot be run.

    Args:
        tasks: a name among them that is no task may be a suite's.
        suites: names that are suites', also where a task has the same one.

    Raises:
        UserError: a name that is neither, or no such suite.
    """
    known = list_tasks(tasks_folders)
    named = [one for one in tasks if isinstance(one, str) and one not in known and one in SUITES]
    plain = [one for one in tasks if one not in named]
    for name in plain:
        if isinstance(name, str) and name not in known and not name.endswith((".yaml", ".yml")):
            raise UserError(
                f"unknown task {name!r}: {did_you_mean(name, [*known, *SUITES])} --list-tasks prints all tasks, and "
                f"--tasks-folder adds a folder of your own"
            )
    wanted = dict.fromkeys(task for suite in [*named, *suites] for task in suite_tasks(suite) if task not in plain)
    found = [name for name in wanted if name in known]
    missing = {name: f"no task {name!r} here; it may be in a folder that --tasks-folder names" for name in wanted}
    return [*plain, *found], {name: reason for name, reason in missing.items() if name not in known}
