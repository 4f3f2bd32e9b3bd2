"""Who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "common": set(),
    "losses": {"common"},
    "models": {"common"},
    "recipe": {"common", "models.specs"},
    "data": {"common", "recipe", "models.vocabulary"},
    "training": {"common", "data", "models", "losses", "recipe"},
    "export": {"common", "models"},
    "launch": {"common"},
    "convert": {"common", "models"},
    "doctor": {"common"},
    "new": {"common", "recipe", "models", "doctor.surroundings"},
    "report": {"common", "recipe", "losses"},
    "planning": {"common", "recipe", "models", "losses", "data", "export"},
    "study": {"common", "recipe", "data", "models", "losses", "training"},
    "preview": {"common", "recipe", "models", "losses", "data", "planning.models"},
    "analysis": {"common", "recipe", "data", "models", "losses", "training", "report", "study"},
}


SCORERS = {("study", "taid_vlm_eval.metrics.rouge")}  # a pure function; asking and scoring stay with the evaluation


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_the_design_allows(room: str) -> None:
    for file in (ROOT / "taid_vlm" / room).rglob("*.py"):
        for name in imports(file):
            if not name.startswith(("taid_vlm.", "taid_vlm_eval")) or (room, name) in SCORERS:
                continue
            inner = name.removeprefix("taid_vlm.")
            own = inner == room or inner.startswith(f"{room}.")
            assert own or any(inner == a or inner.startswith(f"{a}.") for a in ALLOWED[room]), f"{file}: {name}"


def test_the_evaluation_knows_the_training_side_in_its_adapters_only() -> None:
    knowing = set()
    for file in (ROOT / "eval").rglob("*.py"):
        for name in imports(file):
            if name.startswith("taid_vlm.") and not name.startswith("taid_vlm.common"):
                assert name.startswith("taid_vlm.models"), f"{file}: {name}"
                knowing.add(file.name)
    assert knowing == {"student.py", "student_reading.py", "internvl2.py"}


def test_only_commands_call_the_evaluation() -> None:
    files = [f for f in (ROOT / "taid_vlm").rglob("*.py") if any(n.startswith("taid_vlm_eval") for n in imports(f))]
    assert {str(file.relative_to(ROOT / "taid_vlm")) for file in files} == {
        "cli.py",
        "commands/measuring.py",
        "example_answers.py",
        "quickstart.py",
        "run.py",
        "study/answers.py",
    }
