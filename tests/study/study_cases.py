"""A small study without training: settings, and records as runs would leave them."""

import random

from taid_vlm.study.plan import Job, Setting
from taid_vlm.study.records import Record

QUALITY = {"sft": 0.5, "kl": 0.6, "rkl": 0.55, "taid": 0.7}
MAIN = Setting(
    "charts", "charts, small", "a", "study/charts/student", methods=tuple(QUALITY), seeds=3, rates=(1e-3, 3e-3)
)
AROUND = Setting(
    "charts-long",
    "charts, longer",
    "a",
    "study/charts/student",
    ("training.steps=400",),
    ("kl", "taid"),
    2,
    (),
    "charts",
)
WORDS = Setting(
    "words", "definitions, small", "b", "study/text/student", methods=("kl", "taid"), seeds=2, rates=(1e-3,)
)
ITEMS = 200
LENGTHS = (3, 7, 12, 15)  # of answers, in tokens


def record_of(job: Job, **changes: object) -> Record:
    """What a run of the job could have left; 3e-3 is the better rate of all methods but KL."""
    assert job.lr is not None
    better = (job.lr == 3e-3) != (job.method == "kl")
    share = QUALITY[job.method] + (0.05 if better else 0)
    draws = random.Random(f"{job.key} {job.lr}")
    right = [draws.random() < share for _ in range(ITEMS)]
    exact = sum(right) / ITEMS
    figures = {"exact": exact, "cross_entropy": 1 - share, "kl": 1 - share, "reverse_kl": 1.0}
    held = {split: dict(figures) for split in ("validation", "test")}
    items: dict = {"test": {"right": "".join("01"[one] for one in right)}}
    if job.setting.pair == "a":
        held["blank"] = {"exact": 0.3}
        items["blank"] = {"right": "1" * 15 + "0" * 35}
    else:
        held["test"] |= {"agreement": exact, "rouge_l": 0.2, "rouge_l_teacher": 0.3}
        held["validation"]["agreement"] = exact
        tokens = [LENGTHS[place % len(LENGTHS)] for place in range(ITEMS)]
        agreed = [count - 1 + one for count, one in zip(tokens, right, strict=True)]
        held["test"]["agreement"] = sum(agreed) / sum(tokens)
        items = {"test": {"agreed": agreed, "tokens": tokens}}
    given = {
        "key": job.key,
        "setting": job.setting.name,
        "method": job.method,
        "seed": job.seed,
        "lr": job.lr,
        "recipe": job.digest(),
        "made_of": {"teacher": "t"},
        "figures": held,
        "items": items,
        "clock": [0.4, 0.7, 0.99] if job.method == "taid" else [],
        "seconds": 10.0,
        "hardware": {"device": "cpu", "processor": "tiny", "threads": 1},
        "versions": {"torch": "2", "transformers": "5"},
    }
    return Record(**{**given, **changes})  # type: ignore[arg-type]
