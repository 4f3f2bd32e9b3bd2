"""The four questions of ``step.py``. Each part runs its contestants in turn, round by round, in fresh processes."""

import os
from statistics import median
from typing import Any

from step_jobs import CACHED, FIRST_EPOCH, ONLINE, SFT, Bench, middle, needed, own_cache, seconds_of

from taid_vlm.training.timing import LAPS, OTHER

EPOCHS = (1, 2, 4)


def split(bench: Bench, rounds: int) -> dict[str, Any]:
    """Where a step's time goes, and what share of it the two passes take that cannot be left out."""
    sizes = bench.sizes
    warmup, steps = sizes["warmup"], sizes["warmup"] + sizes["steps"]
    options = [ONLINE, f"training.batch_size={sizes['batch']}", *_limited(bench)]
    laps: dict[str, list[float]] = {name: [] for name in (*LAPS, OTHER)}
    whole, teacher, student = [], [], []
    for _ in range(rounds):
        found = needed(bench.job("train", steps, options))["steps"]
        whole += seconds_of(found, warmup)
        for name in laps:
            laps[name] += seconds_of(found, warmup, f"seconds_{name}")
        by_itself = needed(bench.job("alone", steps, options))["steps"]
        teacher += seconds_of(by_itself, warmup, "teacher")
        student += seconds_of(by_itself, warmup, "student")
    # The same batches on both sides, so means are of the same work; medians of parts would not add up.
    return {
        "batch": sizes["batch"],
        "seconds": middle(whole),
        "laps": {name: {**middle(values), "share": sum(values) / sum(whole)} for name, values in laps.items()},
        "teacher_alone": middle(teacher),
        "student_alone": middle(student),
        "share_of_passes": (median(teacher) + median(student)) / median(whole),
    }


def cache(bench: Bench, rounds: int) -> dict[str, Any]:
    """Runs of 1, 2 and 4 epochs: teacher in every step; teacher once before the first; teacher in the first epoch's steps."""
    sizes = bench.sizes
    epoch = sizes["epoch"] // sizes["batch"]
    options = [f"training.batch_size={sizes['batch']}", *_limited(bench)]
    epochs: dict[str, list[float]] = {"online": [], "cached": []}
    filling: list[float] = []
    runs: dict[int, dict[str, list[float]]] = {n: {"online": [], "cached": [], "on the way": []} for n in EPOCHS}
    for turn in range(rounds):
        for count in EPOCHS:
            steps = count * epoch
            online = needed(bench.job("train", steps, [*options, ONLINE]))
            empty, other = (own_cache(bench.scratch, f"{turn}-{count}-{name}") for name in ("before", "way"))
            cold = needed(bench.job("train", steps, [*options, CACHED], env=empty))
            warm = needed(bench.job("train", steps, [*options, CACHED], env=empty))
            way = needed(bench.job("train", steps, [*options, CACHED, FIRST_EPOCH], env=other))
            # Start and end of a run are the same but for the pass of the teacher.
            filling.append(_around(cold) - _around(warm))
            epochs["online"] += _epochs(online, epoch)
            epochs["cached"] += _epochs(warm, epoch)
            runs[count]["online"].append(sum(seconds_of(online["steps"], 0)))
            runs[count]["cached"].append(filling[-1] + sum(seconds_of(cold["steps"], 0)))
            runs[count]["on the way"].append(sum(seconds_of(way["steps"], 0)))
    return {
        "samples_per_epoch": sizes["epoch"],
        "batch": sizes["batch"],
        "filling": middle(filling),
        "epoch": {name: middle(values) for name, values in epochs.items()},
        "speedup_of_an_epoch": median(epochs["online"]) / median(epochs["cached"]),
        "runs": {count: {name: middle(values) for name, values in found.items()} for count, found in runs.items()},
    }


def official(bench: Bench, rounds: int) -> dict[str, Any]:
    """Ours beside the authors' step, the teacher online in both, and the steps of other libraries."""
    sizes = bench.sizes
    batch, few, many = sizes["official_batch"], sizes["official_steps"], sizes["small_steps"]
    options = [f"training.batch_size={batch}", *_limited(bench)]
    contestants: dict[str, tuple[str, int, list[str], dict[str, Any]]] = {
        "taid, ours": ("train", many, [ONLINE], {}),
        "taid, official": ("official", few, [ONLINE], {"length": sizes["length"]}),
        "gkd, TRL": ("trl", many, [ONLINE], {"trainer": "gkd"}),
        "sft, ours": ("train", many, SFT, {}),
        "sft, transformers": ("transformers_sft", many, SFT, {}),
        "sft, TRL": ("trl", many, SFT, {"trainer": "sft"}),
    }
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    peaks: dict[str, list[int]] = {name: [] for name in contestants}
    absent: dict[str, str] = {}
    for _ in range(rounds):
        for name, (kind, steps, more, settings) in contestants.items():
            if name in absent:
                continue
            # The first step warms up: few of the official ones fit into an hour.
            found = bench.job(kind, steps + 1, [*options, *more], **settings)
            if name in ("taid, ours", "taid, official", "sft, ours"):
                needed(found)
            if "not_run" in found:
                absent[name] = found["not_run"]
                continue
            rows[name] += found["steps"][1:]
            peaks[name].append(found["peak_bytes"])
    return {
        "batch": batch,
        "length": sizes["length"],
        "not_run": absent,
        "contestants": {name: _rates(rows[name], peaks[name]) for name in contestants if rows[name]},
    }


def processes(bench: Bench, rounds: int) -> dict[str, Any]:
    """Two processes on two cores against one on one core: samples per second, the micro-batches of one size."""
    sizes = bench.sizes
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return {"not_run": "this process may use one core only"}
    batch, warmup = sizes["batch"], sizes["warmup"]
    options = [ONLINE, f"training.batch_size={batch}", f"training.micro_batch_size={batch // 2}", *_limited(bench)]
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    steps: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(rounds):
        for count in (1, 2):
            settings: dict[str, Any] = {"processes": count, "cores": cores[:count], "env": environment}
            found = needed(bench.job("train", warmup + sizes["steps"], options, **settings))
            steps[count] += found["steps"][warmup:]
    rates = {count: [batch / step["seconds"] for step in some] for count, some in steps.items()}
    names = [f"seconds_{name}" for name in (*LAPS, OTHER)]
    return {
        "batch": batch,
        "micro_batch": batch // 2,
        "samples_per_second": {count: middle(values) for count, values in rates.items()},
        # What the first process saw; gradients are exchanged inside backward.
        "laps": {
            count: {name: median([step[name] for step in some]) for name in names} for count, some in steps.items()
        },
        "ratio": median(rates[2]) / median(rates[1]),
    }


PARTS = {"split": split, "cache": cache, "official": official, "processes": processes}


def _around(found: dict[str, Any]) -> float:
    """Seconds of a run that are no steps."""
    return float(found["wall"]) - sum(seconds_of(found["steps"], 0))


def _epochs(found: dict[str, Any], epoch: int) -> list[float]:
    seconds = seconds_of(found["steps"], 0)
    return [sum(seconds[start : start + epoch]) for start in range(0, len(seconds), epoch)]


def _limited(bench: Bench) -> list[str]:
    """As many samples as an epoch has here: a run's start, which reads and encodes all of them, is not what is asked."""
    limit = bench.sizes["epoch"]
    return [] if bench.sizes["quick"] else [f"data.train=[{{kind: easy_vqa, path: 'asset:easy-vqa', limit: {limit}}}]"]


def _rates(rows: list[dict[str, float]], peaks: list[int]) -> dict[str, Any]:
    seconds = sum(row["seconds"] for row in rows)
    return {
        "seconds_per_step": middle([row["seconds"] for row in rows]),
        "answer_tokens_per_second": sum(row["answers"] for row in rows) / seconds,
        "tokens_per_second": sum(row["tokens"] for row in rows) / seconds,
        "peak_bytes": median(peaks),
    }
