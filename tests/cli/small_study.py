"""A study of three runs of a tiny student, which the recipe ``r.yaml`` in the working folder describes; only the held-out samples are missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taid_vlm.common.files import sha256_of
from taid_vlm.study import go, plan
from taid_vlm.study.bench import Bench, Exam

SMALL = plan.Setting("small", "small", "a", "r.yaml", methods=("kl",), seeds=1, rates=(1e-3, 3e-3))
KEYS = ("small/kl/lr-0.001", "small/kl/lr-0.003", "small/kl/seed-0")


def examine(bench: Bench, student: Path, exam: Exam, pair: str) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Figures that tell one student from another."""
    drawn = {"exact": int(sha256_of(student / "model.safetensors")[:8], 16) / 2**32}
    return {"validation": drawn, "test": drawn}, {}


def make_small(put: Callable[[Any, str, Any], None]) -> None:
    """Make it the study; ``put`` is setattr, or that of a monkeypatch."""
    put(go, "SETTINGS", (SMALL,))
    put(plan, "SETTINGS", (SMALL,))
    put(Bench, "exam", lambda bench, pair, recipe: Exam({}, "t", 0, {}, []))
    put(Bench, "examine", examine)
