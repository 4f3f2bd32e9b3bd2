"""One contestant of ``step.py`` in a process of its own: reads a job, does its steps, writes what they took.

    python benchmarks/step_worker.py JOB.json OUT.json

A job names its kind and a recipe. Each kind gives ``steps``, a row for each optimizer step with its ``seconds``, supervised
tokens (``answers``) and tokens that are no padding (``tokens``); with them goes the highest memory of the process.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from taid_vlm.data import Join, PairedBatch, StepOrder, make_loader
from taid_vlm.losses import LossSpec
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.training import train
from taid_vlm.training.inputs import model_inputs, teacher_inputs
from taid_vlm.training.precision import autocast, choose_precision
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.step import DistillationStep

Found = dict[str, Any]


def trained(job: Found, recipe: Recipe) -> Found:
    """The toolkit's own loop; seconds by lap for each step, as it writes them down."""
    folder = Path(job["folder"])
    begin = time.perf_counter()
    train(recipe, folder)
    wall = time.perf_counter() - begin
    if int(os.environ.get("RANK", "0")):
        return {}
    timing = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    figures = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    answers = [row["rows"] for row in figures if "rows" in row]
    steps = [
        {**row, "answers": rows, "tokens": round(row["tokens_per_second"] * row["seconds"])}
        for row, rows in zip(timing, answers, strict=True)
    ]
    return {"steps": steps, "wall": wall, "precision": json.loads((folder / "run.json").read_text())["precision"]}


def alone(job: Found, recipe: Recipe) -> Found:
    """The two passes that no step of distillation can do without, each by itself, on the batches of the recipe.

    The student's pass is plain fine-tuning: forward, cross-entropy at the answer rows, backward.
    """
    setup, device = _prepared(recipe)
    assert setup.teacher is not None
    module = DistillationStep(setup.student, LossSpec.of("sft"), None, recipe.loss).train()
    steps = []
    for batch in _batches(setup, recipe):
        assert batch.teacher is not None
        read = teacher_inputs(batch, batch.teacher, setup.teacher, setup.teacher_store).to(device)
        inputs = model_inputs(batch, batch.student, setup.processor, setup.store).to(device)
        labels = batch.labels.to(device)
        start = _now(device)
        with autocast(device, setup.precision):
            setup.teacher.hidden(read)
        middle = _now(device)
        with autocast(device, setup.precision):
            out = module(inputs, labels, 1.0)
        (out.loss / len(labels)).backward()
        steps.append({"teacher": middle - start, "student": _now(device) - middle})
        module.zero_grad()
    return {"steps": steps, "precision": setup.precision}


def official(job: Found, recipe: Recipe) -> Found:
    """The authors' step, see ``official_step.py``."""
    from official_step import OfficialStep

    setup, device = _prepared(recipe)
    step = OfficialStep(setup, recipe, device, job["length"])
    return {"steps": list(_timed(step, _batches(setup, recipe), device))}


def transformers_sft(job: Found, recipe: Recipe) -> Found:
    """Fine-tuning with the loss of transformers."""
    from step_peers import TransformersStep

    setup, device = _prepared(recipe)
    return {"steps": list(_timed(TransformersStep(setup, recipe, device), _batches(setup, recipe), device))}


def trl(job: Found, recipe: Recipe) -> Found:
    """A trainer of TRL."""
    from step_peers import run_trl

    setup, device = _prepared(recipe)
    return {"steps": run_trl(job["trainer"], setup, recipe, device, list(_batches(setup, recipe)))}


KINDS: dict[str, Callable[[Found, Recipe], Found]] = {
    "train": trained,
    "alone": alone,
    "official": official,
    "transformers_sft": transformers_sft,
    "trl": trl,
}


def _prepared(recipe: Recipe) -> tuple[Setup, torch.device]:
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    set_seed(recipe.seed)
    precision = choose_precision(recipe.training.precision, accelerator.device)
    return prepare(recipe, accelerator, None, precision, lambda line: None), accelerator.device


def _batches(setup: Setup, recipe: Recipe) -> Iterator[PairedBatch]:
    """The batches that the loop would make; a step is one of them."""
    training = recipe.training
    order = StepOrder(len(setup.train), training.batch_size, training.batch_size, recipe.seed, 0, training.steps)
    sees = setup.processor if setup.store is None and setup.processor.images is not None else None
    join = Join(setup.processor.tokenizer.eos_token_id, None, sees, setup.teacher_looks)
    return iter(make_loader(setup.train, order, join))


def _timed(
    step: Callable[[PairedBatch], float], batches: Iterable[PairedBatch], device: torch.device
) -> Iterator[Found]:
    """Seconds of each step, the making of its batch included."""
    start = _now(device)
    for batch in batches:
        loss = step(batch)
        end = _now(device)
        tokens = int(batch.student.attention_mask.sum())
        yield {"seconds": end - start, "answers": len(batch.labels), "tokens": tokens, "loss": loss}
        start = end


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _pin(cores: list[int]) -> None:
    """Keep each process of a job to a core of its own; threads that are made from here on are kept there as well."""
    if cores:
        os.sched_setaffinity(0, {cores[int(os.environ.get("LOCAL_RANK", "0"))]})


def _highest(device: str) -> int:
    """Most bytes so far: of the GPU's allocator, or resident on a CPU, where Linux keeps the highest size itself."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    _pin(job.get("cores", []))
    found = KINDS[job["kind"]](job, load_recipe(job["recipe"]))
    if int(os.environ.get("RANK", "0")) == 0:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        Path(sys.argv[2]).write_text(json.dumps({**found, "peak_bytes": _highest(device)}))


if __name__ == "__main__":
    main()
