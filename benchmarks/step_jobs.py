"""Recipes of ``step.py`` and the processes that run them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from taid_vlm.common.assets import cache_folder
from taid_vlm.recipe import Recipe, dump_recipe, load_recipe

HERE = Path(__file__).resolve().parent
# A benchmark has few steps: no warm-up, no evaluation, no checkpoint on the way, the paper's own rate of t.
SHORT = ["training.warmup_steps=0", "evaluation.tasks=[]", "loss.alpha_total=null", "training.checkpoint_every=1000000"]
ONLINE, CACHED = "teacher.cache.enabled=false", "teacher.cache.enabled=true"
FIRST_EPOCH = "teacher.cache.fill=first_epoch"
# Fine-tuning, which has no teacher.
SFT = ["teacher=null", "loss.name=sft"]


@dataclass(frozen=True)
class Bench:
    """Where jobs are run: a recipe, a scratch folder, and the sizes of everything."""

    recipe: str
    scratch: Path
    sizes: dict[str, Any]
    precision: str

    def job(self, kind: str, steps: int, overrides: Sequence[str] = (), **more: Any) -> dict[str, Any]:
        """One job in a fresh process; see :func:`run`. ``steps`` are optimizer steps of the recipe."""
        count, processes, environment = len(list(self.scratch.iterdir())), more.pop("processes", 1), more.pop("env", {})
        folder = self.scratch / f"{kind}-{count}"
        folder.mkdir()
        common = [*SHORT, f"training.steps={steps}", f"training.precision={self.precision}"]
        recipe = load_recipe(self.recipe, [*common, *overrides])
        (folder / "recipe.yaml").write_text(dump_recipe(recipe))
        content = {"kind": kind, "recipe": str(folder / "recipe.yaml"), "folder": str(folder / "run"), **more}
        return run(content, folder, processes, environment)


def run(content: dict[str, Any], folder: Path, processes: int, environment: dict[str, str]) -> dict[str, Any]:
    """A worker's findings, or ``{"not_run": reason}``."""
    job, out = folder / "job.json", folder / "out.json"
    job.write_text(json.dumps(content))
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false", **environment}
    command = [*start, str(HERE / "step_worker.py"), str(job), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode != 0 or not out.is_file():
        return {"not_run": _reason(done.stderr), "stderr": done.stderr[-2000:]}
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _reason(stderr: str) -> str:
    """The last line that a program said."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def needed(found: dict[str, Any]) -> dict[str, Any]:
    """What a job found; without it the benchmark makes no sense, so its failure ends all."""
    if "not_run" in found:
        raise SystemExit(f"a step of our own failed: {found['stderr']}")
    return found


def own_cache(scratch: Path, name: str) -> dict[str, str]:
    """Variables of a cache folder with the same assets and no hidden states of a teacher."""
    folder = scratch / "caches" / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("assets", "converted", "wheels"):
        if (cache_folder() / part).is_dir() and not (folder / part).exists():
            (folder / part).symlink_to(cache_folder() / part)
    return {"TAID_VLM_CACHE": str(folder)}


def quick_recipe(folder: Path) -> Path:
    """A tiny random pair with pictures of one colour: sizes of no meaning, to see that everything runs."""
    from taid_vlm.training import train

    sys.path.insert(0, str(HERE.parent))
    from tests.tiny.data import write_easy_vqa
    from tests.tiny.language_model import save_tiny_llama
    from tests.tiny.recipes import distil, tiny_recipe

    model, pictures = save_tiny_llama(folder / "llama"), write_easy_vqa(folder / "easy-vqa")
    training = {"steps": 1, "batch_size": 4, "lr": 1e-3, "precision": "fp32", "trackers": []}
    teacher = train(tiny_recipe(model, pictures, training=training), folder / "teacher")
    data = {"train": [{"kind": "easy_vqa", "path": str(pictures)}], "cache_image_features": True}
    recipe: Recipe = distil(model, pictures, teacher, data=data, training=training)
    (folder / "quick.yaml").write_text(dump_recipe(recipe))
    return folder / "quick.yaml"


def scratch_folder() -> Any:
    """A temporary folder for recipes, runs and caches."""
    return tempfile.TemporaryDirectory(prefix="taid-step-")


def seconds_of(steps: list[dict[str, Any]], warmup: int, name: str = "seconds") -> list[float]:
    """One figure of the steps after those that warm up."""
    return [float(step[name]) for step in steps[warmup:]]


def middle(rows: list[float]) -> dict[str, Any]:
    """Median and range."""
    return {"median": median(rows), "min": min(rows), "max": max(rows), "count": len(rows)}
