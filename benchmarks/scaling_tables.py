"""Markdown tables from the JSON of ``taid-vlm plan --compare``."""

from collections.abc import Iterable
from typing import Any

GIB, GB, TB = 2**30, 1e9, 1e12
COMPARED = {"L4 24 GB": 24, "A100 40 GB": 40, "H100 80 GB": 80, "H200 141 GB": 141}


def made_table(plans: dict[int, dict[str, Any]]) -> str:
    """What is trained on what."""
    first = next(iter(plans.values()))
    lengths, vocabulary = first["lengths"], first["vocabulary"]
    rows = [(part["name"], f"{part['parameters']:,}", f"{part['trained']:,}") for part in first["parts"]]
    table = _table(("part", "parameters", "trained"), rows)
    steps = first["flops"]["steps"]
    batches = ", ".join(
        f"{plan['micro_batches']} x {plan['micro_batch']} samples on each of {gpus} GPUs"
        for gpus, plan in plans.items()
    )
    return (
        f"{table}\n\n{lengths['samples']:,} samples of {lengths['median']:,} tokens, {lengths['answer_median']:,} of them "
        f"supervised; {vocabulary['shared']:,} tokens in both heads. {steps:,} steps of {batches}."
    )


def choices_table(plan: dict[str, Any]) -> str:
    """Every strategy with every place of the teacher, without and with checkpointing."""
    choices, rows = plan["scale"]["choices"], []
    for plain, kept in zip(choices[::2], choices[1::2], strict=True):
        pace = plain["pace"]
        rows.append(
            (
                plain["option"]["strategy"],
                _teacher(plain),
                f"{plain['peak'] / GIB:.1f}",
                f"{kept['peak'] / GIB:.1f}",
                _number(plain["sent"] / GB),
                _number(plain["option"]["wire"]["from_host"] / GB),
                f"{pace['step']:.3g}",
                f"{kept['pace']['step']:.3g}",
                f"{pace['gpu_hours']:,.0f}",
                f"{_smallest(plain)} / {_smallest(kept)}",
            )
        )
    columns = (
        *("student", "teacher", "GiB", "GiB, checkpointing", "GB sent per step", "GB read from host"),
        *("s per step", "s, checkpointing", "GPU-hours", "smallest GPU, GB"),
    )
    return _table(columns, rows)


def recommended_table(plan: dict[str, Any]) -> str:
    """What to choose on each card."""
    rows = []
    for one in plan["scale"]["recommended"]:
        choice = one["choice"]
        if choice is None:
            rows.append((one["card"], "nothing fits", "", "", "", "", ""))
            continue
        pace = choice["pace"]
        rows.append(
            (
                one["card"],
                choice["option"]["strategy"],
                _teacher(choice),
                "yes" if choice["option"]["checkpointing"] else "no",
                f"{choice['peak'] / GIB:.1f}",
                f"{pace['hours']:,.2f}",
                f"{pace['gpu_hours']:,.0f}",
            )
        )
    return _table(("GPU", "student", "teacher", "checkpointing", "GiB", "hours", "GPU-hours"), rows)


def memory_table(plan: dict[str, Any]) -> str:
    """Parts of the highest phase, for a teacher that is sharded."""
    shown = [c for c in plan["scale"]["choices"] if _teacher(c) == "sharded" and not c["option"]["checkpointing"]]
    phases = [max(c["option"]["phases"], key=lambda phase: sum(phase["parts"].values())) for c in shown]
    names = list(dict.fromkeys(name for phase in phases for name in phase["parts"]))
    rows = [(name, *(_gib(phase["parts"].get(name, 0)) for phase in phases)) for name in names]
    rows.append(("in all", *(_gib(sum(phase["parts"].values())) for phase in phases)))
    rows.append(("phase", *(phase["name"] for phase in phases)))
    return _table(("GiB", *(c["option"]["strategy"] for c in shown)), rows)


def wire_table(plan: dict[str, Any]) -> str:
    """GB that each GPU sends in a step, by what for, for a teacher that is sharded; and the seconds of them."""
    shown = [c for c in plan["scale"]["choices"] if _teacher(c) == "sharded" and not c["option"]["checkpointing"]]
    names = list(dict.fromkeys(name for c in shown for name in c["option"]["wire"]["sent"]))
    rows = []
    for choice in shown:
        sent, pace = choice["option"]["wire"]["sent"], choice["pace"]
        numbers = [_number(sent.get(name, 0) / GB) for name in names]
        rows.append(
            (choice["option"]["strategy"], *numbers, f"{pace['communication']:.3g}", f"{pace['arithmetic']:.3g}")
        )
    return _table(("student", *(f"{name}, GB" for name in names), "s of these", "s of arithmetic"), rows)


def run_table(plans: dict[int, dict[str, Any]]) -> str:
    """The arithmetic of a step, and the teacher's cache."""
    rows = []
    for gpus, plan in plans.items():
        flops, cache = plan["flops"], plan["scale"]["cache"]
        pays = "never" if cache["pays_after"] is None else f"{cache['pays_after']:.2f}"
        rows.append(
            (
                str(gpus),
                f"{flops['step'] / 1e15:,.2f}",
                f"{flops['teacher_share']:.0%}",
                f"{flops['encoder'] / 1e15:,.2f}",
                f"{cache['disk_bytes'] / TB:,.2f}",
                f"{cache['fill_hours']:,.2f}",
                pays,
                f"{cache['read_rate'] / GB:,.2g}",
            )
        )
    columns = (
        *("GPUs", "PFLOP per step", "the teacher's share", "encoder, PFLOP", "cache, TB", "hours to fill it"),
        *("epochs until it pays", "GB/s that training reads"),
    )
    return _table(columns, rows)


def _teacher(choice: dict[str, Any]) -> str:
    teaching = choice["option"]["teaching"]
    if teaching is None:
        return "none"
    return f"cached, filled {teaching['placement']}" if teaching["cached"] else str(teaching["placement"])


def _smallest(choice: dict[str, Any]) -> str:
    return str(COMPARED[choice["fits_on"][0]]) if choice["fits_on"] else "none"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value else ""


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
