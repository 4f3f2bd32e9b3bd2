"""A plan for people: plain text tables."""

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taid_vlm.common.telling import for_terminal
from taid_vlm.planning.cards import GIB, MFU, USABLE
from taid_vlm.planning.memory import MemoryPlan
from taid_vlm.planning.schema import Plan
from taid_vlm.planning.show_scale import in_hours, show_scale

WIDTH = 120


def show(plan: Plan, console: Console | None = None) -> None:
    """Print all of a plan."""
    out = console or Console(width=WIDTH, highlight=False, emoji=False)

    def say(text: str) -> None:
        out.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)

    if plan.description:
        say(plan.description)
    for warning in plan.warnings:
        say(f"note: {warning}")
    _parts(plan, out)
    _samples(plan, say)
    for memory in plan.memory:
        _memory(plan, memory, out)
    _cards(plan, out)
    _flops(plan, say)
    if plan.gpus > 1 or plan.scale.choices:
        show_scale(plan.scale, say, lambda title, columns, rows: _table(out, title, columns, rows))
    _export(plan, out)


def _table(out: Console, title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], right: bool = True) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if right and index else "left", no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(for_terminal(cell)) for cell in row))
    out.print(f"\n{title}", markup=False, highlight=False, soft_wrap=True)
    out.print(table)


def _parts(plan: Plan, out: Console) -> None:
    rows = [
        (p.name, p.kind, f"{p.parameters:,}", f"{p.trained:,}", p.mode, f"{p.lr:g}" if p.lr is not None else "")
        for p in plan.parts
    ]
    _table(out, "Parts", ("part", "class", "parameters", "trained", "mode", "learning rate"), rows)


def _samples(plan: Plan, say: Callable[[str], None]) -> None:
    say("\nSamples")
    if plan.grid is not None:
        say(f"  a tile: grid {plan.grid[0]} x {plan.grid[1]} of the encoder, {plan.tokens_per_tile} tokens")
    for picture in plan.pictures:
        any_size = "any size" if len(plan.pictures) == 1 else f"{picture.size[0]} x {picture.size[1]}"
        say(f"  a picture of {any_size}: {picture.tiles} tiles, {picture.tokens} tokens")
    length = plan.lengths
    context = "" if length.context is None else f", the language model's context {length.context}"
    say(f"  {length.samples:,} samples of {length.median} tokens (median), {length.longest} at most")
    say(f"  the limit data.max_length is {length.limit}{context}")
    say(f"  answers of {length.answer_median} tokens (median), {length.answer_longest} at most")
    if length.refused:
        say(f"  {length.refused} samples cannot be used")
    if length.note:
        say(f"  {length.note}")
    say(f"  a step: {plan.micro_batches} x {plan.micro_batch} samples on each of {plan.gpus} processes")
    if plan.vocabulary is not None:
        v = plan.vocabulary
        say(f"  vocabulary: {v.shared:,} tokens shared; heads of {v.student:,} (student) and {v.teacher:,} (teacher)")


def _memory(plan: Plan, memory: MemoryPlan, out: Console) -> None:
    names = list(dict.fromkeys(name for phase in memory.phases for name in phase.parts))
    rows = [(name, *(_gib(phase.parts.get(name, 0)) for phase in memory.phases)) for name in names]
    rows.append(("in all", *(_gib(phase.total) for phase in memory.phases)))
    what = "resident memory of the process on a CPU" if memory.device == "cpu" else "memory of each GPU"
    title = f"Peak {what}, GiB, {plan.precision[memory.device]}: {_gib(memory.highest.total)} ({memory.highest.name})"
    _table(out, title, ("", *(phase.name for phase in memory.phases)), rows)


def _cards(plan: Plan, out: Console) -> None:
    rows = [
        (card.card, "fits" if card.fits else "does not fit", in_hours(card.hours) if card.fits else "")
        for card in plan.cards
    ]
    first = next((card.card for card in plan.cards if card.fits), None)
    title = f"Cards ({USABLE:.0%} of the memory is counted as usable); the first that fits: {first or 'none'}"
    _table(out, title, ("card", "", f"hours, estimated at {MFU:.0%} of the peak"), rows)


def _flops(plan: Plan, say: Callable[[str], None]) -> None:
    f = plan.flops
    say(f"\nArithmetic of an optimizer step: about {_tera(f.step)} TFLOP; of the largest batch:")
    say(f"  student, forward and backward {_tera(f.student)}, encoder {_tera(f.encoder)}, heads {_tera(f.heads)},")
    say(f"  teacher {_tera(f.teacher)} ({f.teacher_share:.0%} of the step); once before training {_tera(f.before)}")


def _export(plan: Plan, out: Console) -> None:
    rows = [(v.runtime, "yes" if v.loads else "no", v.how, v.change) for v in plan.export.runtimes]
    columns = ("runtime", "loads", "how", "what would change that")
    _table(out, f"Export: {plan.export.target}", columns, rows, right=False)
    for name, why in plan.export.refusals.items():
        out.print(for_terminal(f"  not {name}: {why}"), markup=False, highlight=False, soft_wrap=True)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size else ""


def _tera(flops: float) -> str:
    return f"{flops / 1e12:.3g}"
