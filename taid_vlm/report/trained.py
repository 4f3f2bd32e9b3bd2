"""What was trained of a student, part by part, as its run wrote it down."""

import re
from dataclasses import dataclass

from taid_vlm.report.run_files import Run

# A line of trained.txt, see taid_vlm.models.trained_parts.told_parts.
LINE = re.compile(r"(\w+): ([\d,]+) of ([\d,]+) parameters are trained(?:; (.*))?")


@dataclass(frozen=True)
class Part:
    """A part with its parameters, those that were trained and all; ``state`` is how it learns."""

    name: str
    state: str
    trained: int
    total: int

    @property
    def share(self) -> float:
        """Trained ones of all."""
        return self.trained / self.total if self.total else 0.0


@dataclass(frozen=True)
class Trained:
    """Parts and, where there are several, their sum; ``notes`` are what else the run says."""

    parts: list[Part]
    notes: list[str]


def trained_parts(run: Run) -> Trained:
    """Of the run's ``trained.txt``; its recipe says which parts have adapters. A line of another form becomes a note."""
    parts, notes = [], []
    for line in run.trained:
        match = LINE.fullmatch(line)
        if match is None:
            notes.append(line)
            continue
        trained, total = (int(figure.replace(",", "")) for figure in match.group(2, 3))
        name = match[1].replace("_", " ")
        parts.append(Part(name, _state(run, match[1], trained, total), trained, total))
        if match[4]:
            notes.append(f"{name}: {match[4]}")
    if len(parts) > 1:
        sums = sum(part.trained for part in parts), sum(part.total for part in parts)
        parts.append(Part("together", "", *sums))
    return Trained(parts, notes)


def _state(run: Run, part: str, trained: int, total: int) -> str:
    if not trained:
        return "frozen"
    asked = run.part("student").get("train")
    own = asked.get(part) if isinstance(asked, dict) else None
    if isinstance(own, dict) and own.get("mode") == "lora":
        return "LoRA"
    return "trained" if trained == total else "trained in part"
