"""Planned beside measured memory: the peak that ``taid-vlm plan`` says, and the highest resident size of a run.

    python benchmarks/memory.py                         three recipes of the quickstart
    python benchmarks/memory.py my.yaml training.steps=5

Each recipe is trained for a few steps by ``taid-vlm train`` in a fresh process on the CPU, whose highest resident size
(VmHWM) the kernel keeps. Caches of the teacher are made anew, so that their pass is in the measurement. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.files import write_atomic

# Few steps and few records: the peak comes with the first steps, and a pass over all records takes long.
SHORT = ["training.warmup_steps=0", "evaluation.tasks=[]", "loss.alpha_total=null", "training.trackers=[]"]
EASY_VQA = 'data.train=[{kind: easy_vqa, path: "asset:easy-vqa", split: train, limit: 256}]'
CHATTERBOT = 'data.train=[{kind: chatterbot, path: "asset:chatterbot-corpus", split: train, limit: 128}]'
RECIPES = {
    "quickstart/taid": [EASY_VQA, *SHORT],
    "quickstart/language": [CHATTERBOT, "data.validation=[]", *SHORT],
    "quickstart/teacher": [EASY_VQA, *SHORT],
}
MIB = 2**20
# The command itself, which writes its highest resident size when it ends.
WATCHED = """
import atexit, pathlib
def told():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    pathlib.Path({target!r}).write_text(line.split()[1])
atexit.register(told)
from taid_vlm.cli import main
main()
"""


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    chosen = {arguments.recipe: arguments.overrides} if arguments.recipe else RECIPES
    common = [f"training.steps={arguments.steps}", f"training.precision={arguments.precision}"]
    rows = [compare(recipe, [*overrides, *common]) for recipe, overrides in chosen.items()]
    print(f"{'recipe':<28}{'planned MiB':>12}{'measured MiB':>14}{'ratio':>8}  precision, phase")
    for row in rows:
        print(
            f"{row['recipe']:<28}{row['planned'] / MIB:>12.0f}{row['measured'] / MIB:>14.0f}{row['ratio']:>8.2f}  {row['precision']}, {row['phase']}"
        )
    write_atomic(arguments.out, json.dumps(rows, indent=1) + "\n")
    print(f"\nPhases and parts are in {arguments.out}")


def compare(recipe: str, overrides: list[str]) -> dict[str, Any]:
    """Plan a recipe and run it, each in a process of its own."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        planned = json.loads(_run(recipe, overrides, "plan", ["--json"], Path(folder), environment).stdout)
        cache = Path(folder) / "cache"
        cache.mkdir()
        # The same assets and converted models, and no hidden states of an earlier run.
        for name in ("assets", "converted", "wheels"):
            if (cache_folder() / name).is_dir():
                (cache / name).symlink_to(cache_folder() / name)
        environment["TAID_VLM_CACHE"] = str(cache)
        _run(recipe, overrides, "train", ["--output", str(Path(folder) / "run")], Path(folder), environment)
        measured = int((Path(folder) / "train.kib").read_text()) * 1024
    memory = next(one for one in planned["memory"] if one["device"] == "cpu")
    return {
        "recipe": recipe,
        "overrides": overrides,
        "planned": memory["peak"],
        "measured": measured,
        "ratio": memory["peak"] / measured,
        "precision": planned["precision"]["cpu"],
        "phase": memory["highest"],
        "phases": memory["phases"],
    }


def _run(
    recipe: str, overrides: list[str], command: str, options: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    code = WATCHED.format(target=str(folder / f"{command}.kib"))
    called = [sys.executable, "-c", code, command, recipe, *overrides, *options]
    done = subprocess.run(called, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"taid-vlm {command} {recipe} failed:\n{done.stderr[-2000:]}")
    return done


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="one recipe instead of the three")
    parser.add_argument("overrides", nargs="*", help="key.path=value over that recipe")
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="autocast of the runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
