"""The table of recipes/README.md: what each shipped experiment names, and its hours by ``taid-vlm plan``.

    python benchmarks/recipe_hours.py                              print the table
    python benchmarks/recipe_hours.py --hours --page recipes/README.md     put it between the markers of the page

Nothing is measured, and no weights are needed: models are configs alone, with the sizes of the released ones (quoted from memory), and a
tokenizer of bytes that has as many tokens. Texts and conversations are as long as ``data.max_length``, the longest that a recipe takes, and a
quarter of a conversation is answers. Vision-language runs and answers that the student writes are not planned here: their hours are "-".
"""

import argparse
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from scaling_models import QWEN2_1_5B, QWEN2_72B, language_model_folder, text_records

from taid_vlm.common.files import write_atomic
from taid_vlm.planning import Cluster, make_plan
from taid_vlm.recipe import Recipe, list_recipes, load_recipe

GPUS, CARD = 8, "H100 80 GB"
FOLDERS = ("paper/", "modern/")


def _shape(hidden: int, inner: int, layers: int, heads: int, keys: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        **more,
    }


# Hub id: architecture, sizes, tokens of the tokenizer.
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "TinyLlama/TinyLlama_v1.1": ("llama", _shape(2048, 5632, 22, 32, 4, 32000), 32000),
    "microsoft/Phi-3-mini-4k-instruct": ("phi3", _shape(3072, 8192, 32, 32, 32, 32064), 32000),
    "microsoft/Phi-3-medium-4k-instruct": ("phi3", _shape(5120, 17920, 40, 40, 10, 32064), 32000),
    "meta-llama/Llama-2-7b-chat-hf": ("llama", _shape(4096, 11008, 32, 32, 32, 32000), 32000),
    "stabilityai/stablelm-zephyr-3b": ("stablelm", _shape(2560, 6912, 32, 32, 32, 50304), 50277),
    "EleutherAI/pythia-70m": ("gpt_neox", _shape(512, 2048, 6, 8, 8, 50304), 50277),
    "EleutherAI/pythia-410m": ("gpt_neox", _shape(1024, 4096, 24, 16, 16, 50304), 50277),
    "EleutherAI/pythia-1b": ("gpt_neox", _shape(2048, 8192, 16, 8, 8, 50304), 50277),
    "EleutherAI/pythia-2.8b": ("gpt_neox", _shape(2560, 10240, 32, 32, 32, 50304), 50277),
    "EleutherAI/pythia-6.9b": ("gpt_neox", _shape(4096, 16384, 32, 32, 32, 50432), 50277),
    "Qwen/Qwen2-1.5B-Instruct": ("qwen2", QWEN2_1_5B, 151646),
    "Qwen/Qwen2-72B-Instruct": ("qwen2", QWEN2_72B, 151646),
    "Qwen/Qwen3-0.6B": ("qwen3", _shape(1024, 3072, 28, 16, 8, 151936, head_dim=128, tie_word_embeddings=True), 151669),
    "Qwen/Qwen3-8B": ("qwen3", _shape(4096, 12288, 36, 32, 8, 151936, head_dim=128), 151669),
}
METHODS = {
    "sft": "SFT",
    "kl": "forward KL",
    "rkl": "reverse KL",
    "tvd": "TVD",
    "jsd": "JSD",
    "adaptive_kl": "adaptive KL",
    "sfkl": "skew KL",
    "srkl": "skew reverse KL",
    "ctkd": "CTKD",
    "dkd": "DKD",
    "taid": "TAID",
}
EXPORTS = {
    "language_model": "own class, GGUF",
    "smolvlm": "SmolVLM, GGUF",
    "lfm2_vl": "Lfm2Vl, GGUF",
    "internvl": "InternVL",
}


def main() -> None:
    """Print the table, or fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", action="store_true", help="plan the hours too: some minutes a model pair")
    parser.add_argument("--page", type=Path, help="page whose marked table is replaced")
    arguments = parser.parse_args()
    page, block = arguments.page, table(arguments.hours)
    print(block)
    if page is not None:
        place = re.compile(r"<!-- experiments -->\n.*?<!-- end -->", re.DOTALL)
        write_atomic(page, place.sub(lambda _: f"<!-- experiments -->\n\n{block}\n\n<!-- end -->", page.read_text()))


def table(planned: bool) -> str:
    """Markdown, a row for each recipe of :data:`FOLDERS`."""
    lines = [
        "| recipe | teacher | student | data | loss | GPUs | hours | export |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in list_recipes():
        if name.startswith(FOLDERS):
            recipe = load_recipe(name)
            cells = [
                f"`{name}`",
                teacher(recipe),
                student(recipe),
                data(recipe),
                loss(recipe),
                str(GPUS),
                hours(recipe) if planned else "-",
            ]
            lines.append("| " + " | ".join([*cells, EXPORTS[export(recipe)]]) + " |")
    return "\n".join(lines)


def teacher(recipe: Recipe) -> str:
    """Its name on the hub, without the owner."""
    if recipe.teacher is None:
        return "none"
    model = recipe.teacher.language_model
    return _short(model.source if model is not None else recipe.teacher.checkpoint or "")


def student(recipe: Recipe) -> str:
    """Its parts."""
    spec = recipe.student
    if spec.language_model.source.startswith("cache:students/"):
        return spec.language_model.source.split("/")[1]
    eyes = [_short(spec.vision_encoder.name)] if spec.vision_encoder is not None else []
    return " + ".join([*eyes, _short(spec.language_model.source)])


def data(recipe: Recipe) -> str:
    """Names of the data sets."""
    return ", ".join(dict.fromkeys(_short(source.path) for source in recipe.data.train))


def loss(recipe: Recipe) -> str:
    """The method, and who writes the answers."""
    linear = ", linear t" if recipe.loss.schedule == "linear" else ""
    written = f", {recipe.on_policy.sampler} own answers" if recipe.on_policy.sampler != "none" else ""
    return METHODS[recipe.loss.name] + linear + written


def export(recipe: Recipe) -> str:
    """The class that holds the student; a test exports one of each experiment as it."""
    kinds = {
        None: "language_model",
        "pixel_shuffle_linear": "smolvlm",
        "pixel_shuffle_mlp": "lfm2_vl",
        "ln_pixel_shuffle_mlp": "internvl",
    }
    return kinds[recipe.student.projector.name if recipe.student.projector is not None else None]


def hours(recipe: Recipe) -> str:
    """Of the whole run on :data:`GPUS` cards, or "-" for what is not planned."""
    if recipe.student.vision_encoder is not None or recipe.on_policy.sampler != "none":
        return "-"
    names = [recipe.student.language_model.source]
    if recipe.teacher is not None and recipe.teacher.language_model is not None:
        names.append(recipe.teacher.language_model.source)
    training = recipe.training
    kind = recipe.data.train[0].kind
    placement = recipe.teacher.placement if recipe.teacher is not None else ""
    about = (training.steps, training.batch_size, training.micro_batch_size, training.gradient_checkpointing)
    return _hours(tuple(names), recipe.loss.name, kind, recipe.data.max_length, placement, about)


@cache
def _hours(names: tuple[str, ...], loss: str, kind: str, length: int, placement: str, about: tuple[Any, ...]) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = [{"source": str(_folder(folder / str(index), name))} for index, name in enumerate(names)]
        texts = text_records(folder / "texts", 16, length - 1)
        steps, batch, micro, checkpointing = about
        path = str(texts / "train.jsonl") if kind == "text" else str(folder / "not-there")
        content: dict[str, Any] = {
            "student": {"language_model": sources[0], "chat_template": "chatml"},
            "data": {"train": [{"kind": kind, "path": path}], "max_length": length},
            "loss": {"name": loss},
            "training": {
                "steps": steps,
                "batch_size": batch,
                "micro_batch_size": micro,
                "lr": 1e-4,
                "precision": "bf16",
                "gradient_checkpointing": checkpointing,
            },
        }
        if len(sources) > 1:
            content["teacher"] = {
                "language_model": sources[1],
                "chat_template": "chatml",
                "dtype": "bfloat16",
                "placement": placement,
            }
        made = make_plan(Recipe.model_validate(content), gpus=GPUS, process=0, cluster=Cluster(card=CARD))
        return f"{made.scale.chosen.pace.hours:.1f}"


def _folder(folder: Path, name: str) -> Path:
    family, shape, tokens = MODELS[name]
    return language_model_folder(folder, family, shape, tokens)


def _short(name: str) -> str:
    return name.split("/")[-1]


if __name__ == "__main__":
    main()
