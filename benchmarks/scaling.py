"""The tables of docs/scaling.md: two published pairs on 8 and on 64 GPUs, each figure by ``taid-vlm plan``.

    python benchmarks/scaling.py     print the tables
    python benchmarks/scaling.py --pages docs/scaling.md docs/results/scaling.md

also puts them into the pages, between their markers.

No weights are needed, and none are loaded: the folders of the models have configs alone (see scaling_models.py). Nothing is
measured here.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from scaling_models import (
    INTERNLM2_1_8B,
    INTERNLM2_7B,
    QWEN2_1_5B,
    QWEN2_72B,
    QWEN2_TOKENS,
    VIT_300M,
    internvl_folder,
    language_model_folder,
    picture_records,
    text_records,
    vision_folder,
)
from scaling_tables import choices_table, made_table, memory_table, recommended_table, run_table, wire_table

from taid_vlm.common.files import write_atomic

CLUSTERS = ((8, 1), (64, 8))
MADE = 64  # records that are written; their lengths stand for all


@dataclass(frozen=True)
class Pair:
    """One pair of models. ``recipe`` writes its folders and gives the recipe; ``records``: of the whole data set."""

    title: str
    recipe: Callable[[Path, bool], dict[str, Any]]
    records: int


def internvl2(folder: Path, tiny: bool) -> dict[str, Any]:
    """InternVL2-8B teaches InternVL2-2B: one picture of 1344 x 896 (six tiles and the whole), 64 letters asked, 128 answered."""
    eyes, side, patch = (VIT_300M, 448, 14) if not tiny else (_small(VIT_300M), 32, 8)
    teacher, student = (
        (INTERNLM2_7B, INTERNLM2_1_8B) if not tiny else (_small(INTERNLM2_7B, 64), _small(INTERNLM2_1_8B))
    )
    tokens, size = student["vocab_size"], (3 * side, 2 * side)
    vision_folder(folder / "internvit", eyes, side, patch)
    language_model_folder(folder / "internlm2-1.8b", "llama", student, tokens)
    internvl_folder(folder / "internvl2-8b", eyes, teacher, side, patch, 12, tokens)
    picture_records(folder / "pictures", MADE, size, 64, 128)
    encoder = {"library": "transformers", "name": str(folder / "internvit"), "weights": "random", "feature": -1}
    return {
        "student": {
            "vision_encoder": {**encoder, "image_size": side},
            "projector": {"name": "ln_pixel_shuffle_mlp"},
            "language_model": {"source": str(folder / "internlm2-1.8b")},
            "image_token": "<IMG_CONTEXT>",
            "images": {"style": "internvl", "tiling": "dynamic", "max_tiles": 12},
        },
        "teacher": {"checkpoint": str(folder / "internvl2-8b"), "dtype": "bfloat16", "cache": {"dtype": "bfloat16"}},
        "data": {"train": [{"kind": "jsonl", "path": str(folder / "pictures")}], "max_length": 4096},
        "loss": {"name": "taid"},
        "training": {"steps": 2800, "batch_size": 256, "micro_batch_size": 4, "lr": 1e-5, "precision": "bf16"},
    }


def qwen2(folder: Path, tiny: bool) -> dict[str, Any]:
    """Qwen2-72B teaches Qwen2-1.5B: texts of 2,048 tokens, all of which are learnt."""
    teacher, student = (QWEN2_72B, QWEN2_1_5B) if not tiny else (_small(QWEN2_72B, 64), _small(QWEN2_1_5B))
    tokens, length = (QWEN2_TOKENS, 2048) if not tiny else (min(teacher["vocab_size"], student["vocab_size"]), 128)
    language_model_folder(folder / "qwen2-72b", "qwen2", teacher, tokens)
    language_model_folder(folder / "qwen2-1.5b", "qwen2", student, tokens)
    text_records(folder / "texts", MADE, length - 1)  # and the token that ends it
    language_model = {"source": str(folder / "qwen2-72b")}
    return {
        "student": {"language_model": {"source": str(folder / "qwen2-1.5b")}},
        "teacher": {"language_model": language_model, "dtype": "bfloat16", "cache": {"dtype": "bfloat16"}},
        "data": {"train": [{"kind": "text", "path": str(folder / "texts" / "train.jsonl")}], "max_length": length},
        "loss": {"name": "taid"},
        "training": {"steps": 1000, "batch_size": 512, "micro_batch_size": 4, "lr": 1e-5, "precision": "bf16"},
    }


PAIRS = {
    "internvl2": Pair("InternVL2-8B to InternVL2-2B", internvl2, 720_000),
    "qwen2": Pair("Qwen2-72B to Qwen2-1.5B", qwen2, 512_000),
}


def main() -> None:
    """Plan every pair on every cluster, print, write."""
    arguments = _arguments()
    blocks: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, pair in PAIRS.items():
            folder = Path(temporary) / name
            recipe = pair.recipe(folder, arguments.tiny)
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            plans = {}
            for gpus, nodes in CLUSTERS:
                plans[gpus] = plan(folder / "recipe.yaml", gpus, nodes, pair.records)
                for kind, table in (
                    ("choices", choices_table),
                    ("recommended", recommended_table),
                    ("memory", memory_table),
                    ("wire", wire_table),
                ):
                    blocks[f"{name}-{kind}-{gpus}"] = table(plans[gpus])
            blocks[f"{name}-made"] = made_table(plans)
            blocks[f"{name}-run"] = run_table(plans)
    for name, block in blocks.items():
        print(f"\n{name}\n\n{block}")
    for page in arguments.pages:
        write_atomic(page, filled(page.read_text(), blocks))


def plan(recipe: Path, gpus: int, nodes: int, records: int) -> dict[str, Any]:
    """What the command says, in a process of its own."""
    options = ["--gpus", str(gpus), "--nodes", str(nodes), "--records", str(records), "--compare", "--json"]
    command = [sys.executable, "-m", "taid_vlm", "plan", str(recipe), *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"taid-vlm plan {recipe} failed:\n{done.stderr[-2000:]}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def filled(page: str, blocks: dict[str, str]) -> str:
    """A page with each block between ``<!-- NAME -->`` and ``<!-- end -->``."""

    def replaced(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n\n{blocks[found[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- (\S+) -->\n.*?<!-- end -->", replaced, page, flags=re.DOTALL)


def _small(shape: dict[str, Any], width: int = 32) -> dict[str, Any]:
    """The same architecture, tiny; the head keeps more rows than the tokenizer has tokens."""
    heads = {"num_attention_heads": 4}
    if "num_key_value_heads" in shape:
        heads["num_key_value_heads"] = 2
    rows = {"vocab_size": 300 + shape["vocab_size"] % 100} if "vocab_size" in shape else {}
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3}
    return {**shape, **sizes, **heads, **rows}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, nargs="*", default=[], help="pages whose marked tables are replaced")
    parser.add_argument("--tiny", action="store_true", help="tiny models of the same kinds, to try the program")
    return parser.parse_args()


if __name__ == "__main__":
    main()
