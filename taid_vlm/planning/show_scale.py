"""The part of a plan about many GPUs, for people."""

from collections.abc import Callable, Iterable

from taid_vlm.planning.cards import GIB, card_named
from taid_vlm.planning.scale import Choice, ScalePlan
from taid_vlm.planning.wire import REACHED

Say = Callable[[str], None]
Table = Callable[[str, Iterable[str], Iterable[Iterable[str]]], None]
GB, TB = 1e9, 1e12


def show_scale(scale: ScalePlan, say: Say, table: Table) -> None:
    """Traffic and pace of the run, the cache, and the other ways if they were asked for."""
    _pace(scale, say)
    if scale.cache is not None:
        _cache(scale, say)
    if scale.choices:
        _choices(scale, table)
        _recommended(scale, say)


def _pace(scale: ScalePlan, say: Say) -> None:
    choice, cluster = scale.chosen, scale.cluster
    option, pace = choice.option, choice.pace
    teacher = f", teacher {option.teaching.name}" if option.teaching is not None else ""
    say(f"\n{scale.gpus} GPUs on {cluster.nodes} nodes, student {option.strategy}{teacher}: on {pace.card}, estimated")
    for name, size in option.wire.sent.items():
        say(f"  {name}: {_gb(size)} GB sent by each GPU in a step")
    if option.wire.from_host:
        say(f"  {_gb(option.wire.from_host)} GB read by each GPU from the processor's memory in a step")
    if option.node_bytes:
        say(f"  {_gb(option.node_bytes)} GB in the memory of each node's processor, for teacher and activations")
    say(
        f"  a step: {_seconds(pace.step)} s; arithmetic {_seconds(pace.arithmetic)} s, communication "
        f"{_seconds(pace.communication)} s, waiting for the processor's memory {_seconds(pace.reading)} s"
    )
    say(
        f"  {pace.samples_per_second:,.1f} samples/s; the run {in_hours(pace.hours)} hours, {pace.gpu_hours:,.1f} GPU-hours"
    )
    if pace.before:
        say(f"  of these {in_hours(pace.before)} hours before training, for features and the teacher's cache")
    rates, card = cluster.rates, card_named(pace.card)
    network = f", {cluster.network_gbit:g} Gbit/s of network for each node" if cluster.nodes > 1 else ""
    say(
        f"  assumed: {rates.utilisation:.0%} of {card.bf16_tflops:g} TFLOP/s, {rates.hidden:.0%} of the shorter of arithmetic and "
        f"communication hidden, {REACHED:.0%} of {card.link:g} GB/s between GPUs{network}"
    )


def _cache(scale: ScalePlan, say: Say) -> None:
    cache = scale.cache
    assert cache is not None
    say(
        f"  the teacher's cache: {cache.disk_bytes / TB:.3g} TB ({cache.row_bytes:,} bytes for each answer token), "
        f"{in_hours(cache.fill_hours)} hours to fill, read at {cache.read_rate / GB:.2g} GB/s in training"
    )
    pays = "it never pays" if cache.pays_after is None else f"it pays after {cache.pays_after:.2f} epochs"
    say(f"  {pays}; the run has {cache.epochs:.2f}")


def _choices(scale: ScalePlan, table: Table) -> None:
    rows = []
    for plain, kept in zip(scale.choices[::2], scale.choices[1::2], strict=True):
        teaching = plain.option.teaching
        rows.append(
            (
                plain.option.strategy,
                teaching.name if teaching is not None else "none",
                f"{plain.peak / GIB:.1f}",
                f"{kept.peak / GIB:.1f}",
                _gb(plain.option.wire.total),
                _seconds(plain.pace.step),
                _seconds(kept.pace.step),
                in_hours(plain.pace.hours),
                f"{_smallest(plain)} / {_smallest(kept)}",
            )
        )
    columns = (
        *("student", "teacher", "GiB", "GiB*", "GB sent"),
        *("s/step", "s/step*", "hours", "smallest GPU / *"),
    )
    card = scale.cluster.card
    title = f"Every way: memory of each GPU, GB that it sends in a step, time on {card} if it held the run; * with checkpointing"
    table(title, columns, rows)


def _recommended(scale: ScalePlan, say: Say) -> None:
    say(f"\nTo choose (the teacher exact and on these GPUs, a cache of at most {scale.cluster.disk_tb:g} TB):")
    for one in scale.recommended:
        if one.choice is None:
            say(f"  {one.card}: nothing fits")
            continue
        option, pace = one.choice.option, one.choice.pace
        teacher = f", teacher {option.teaching.name}" if option.teaching is not None else ""
        kept = ", gradient checkpointing" if option.checkpointing else ""
        say(
            f"  {one.card}: student {option.strategy}{teacher}{kept}: {one.choice.peak / GIB:.1f} GiB, {in_hours(pace.hours)} hours, "
            f"{pace.gpu_hours:,.1f} GPU-hours"
        )


def _smallest(choice: Choice) -> str:
    return f"{card_named(choice.fits_on[0]).gib:g}" if choice.fits_on else "none"


def _gb(size: int) -> str:
    return f"{size / GB:,.3g}" if size < 1e11 else f"{size / GB:,.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}"


def in_hours(hours: float) -> str:
    """Hours as a table has them."""
    return f"{hours:.1f}" if hours >= 0.1 else "under 0.1"
