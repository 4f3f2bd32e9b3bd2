"""The part of a plan that is about many GPUs: how the run is spread, how fast it goes, and what else could be chosen."""

from dataclasses import dataclass, field

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.planning.asked import Asked
from taid_vlm.planning.cache_cost import CachePlan, cache_plan, row_bytes
from taid_vlm.planning.cards import card_named, fits
from taid_vlm.planning.job import Job
from taid_vlm.planning.options import Option, Options
from taid_vlm.planning.pace import Pace, Rates, pace_of
from taid_vlm.planning.placements import EXACT, Teaching
from taid_vlm.planning.strategies import SEVERAL
from taid_vlm.planning.wire import NETWORK_GBIT, Links

# One card for each size of memory that is compared.
COMPARED = ("L4 24 GB", "A100 40 GB", "H100 80 GB", "H200 141 GB")
USUAL_CARD = "H100 80 GB"
DISK_TB = 10.0
CLOSE = 1.03  # of two ways so near in time the simpler one is recommended


@dataclass(frozen=True)
class Cluster:
    """What a run is planned for.

    Attributes:
        strategy: of the student; None for the recipe's, or ddp. card: for which seconds are told.
        network_gbit: of each node, in each direction. disk_tb: what a cache may take to be recommended.
    """

    nodes: int = 1
    strategy: str | None = None
    card: str = USUAL_CARD
    network_gbit: float = NETWORK_GBIT
    disk_tb: float = DISK_TB
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True)
class Choice:
    """One way to run the recipe, and its pace on the card that was named.

    Attributes:
        peak: bytes of the highest phase, and ``highest`` its name. sent: bytes that each GPU sends in a step.
        fits_on: names of the compared cards that hold it.
    """

    option: Option
    peak: int
    highest: str
    sent: int
    pace: Pace
    fits_on: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """The fastest exact way that fits on a card, the simplest of those near it; None where none fits."""

    card: str
    choice: Choice | None


@dataclass(frozen=True)
class ScalePlan:
    """All of it.

    Attributes:
        chosen: as the recipe and the command ask. choices: every way, if asked for.
        cache: None without a teacher, or with one on a server.
    """

    gpus: int
    cluster: Cluster
    chosen: Choice
    cache: CachePlan | None
    choices: tuple[Choice, ...]
    recommended: tuple[Recommendation, ...]


def scale_plan(job: Job, asked: Asked, bf16: bool, cluster: Cluster, compare: bool) -> ScalePlan:
    """Plan a job for a cluster.

    Raises:
        UserError: a strategy or a card that is not there, processes that cannot be dealt to the nodes.
    """
    if job.gpus % cluster.nodes:
        raise UserError(
            f"{job.gpus} GPUs cannot be dealt evenly to {cluster.nodes} nodes; give a multiple of the nodes"
        )
    options = Options(job, asked, bf16, cluster.nodes)
    teaching = None if job.models.teacher is None else Teaching(asked.placement, job.cached)
    chosen = options.option(strategy_of(asked, cluster, job.gpus), teaching, asked.checkpointing)
    cache = None
    if job.gpus > 1 or compare:
        cache = _cache(job, options, chosen, cluster)
    choices = tuple(_choice(option, job, cluster, cluster.card) for option in options.all()) if compare else ()
    small = cache is not None and cache.disk_bytes <= cluster.disk_tb * 1e12
    exact = [choice for choice in choices if _exact(choice.option.teaching, small)]
    recommended = tuple(_recommended(exact, job, cluster, card) for card in COMPARED) if compare else ()
    return ScalePlan(job.gpus, cluster, _choice(chosen, job, cluster, cluster.card), cache, choices, recommended)


def strategy_of(asked: Asked, cluster: Cluster, gpus: int) -> str:
    """The strategy that the command names, or the recipe, or else ddp.

    Raises:
        UserError: there is none of that name.
    """
    if gpus == 1:
        return "single"
    name = cluster.strategy or asked.strategy or "ddp"
    if name not in SEVERAL:
        raise UserError(f"unknown strategy {name!r} for several GPUs: {did_you_mean(name, SEVERAL)}")
    return name


def _pace(option: Option, job: Job, cluster: Cluster, card: str) -> Pace:
    links = Links(card_named(card), cluster.nodes, cluster.network_gbit)
    return pace_of(option, links, job.gpus, job.recipe.training.batch_size, cluster.rates)


def _choice(option: Option, job: Job, cluster: Cluster, card: str) -> Choice:
    where = tuple(name for name in COMPARED if fits(option.peak, card_named(name).gib))
    pace = _pace(option, job, cluster, card)
    return Choice(option, option.peak, option.highest.name, option.wire.total, pace, where)


def _exact(teaching: Teaching | None, small_cache: bool) -> bool:
    """Whether a way may be recommended: the teacher as it is, on these GPUs, and a cache that there is room for."""
    return teaching is None or (teaching.placement in EXACT and (small_cache or not teaching.cached))


def _recommended(choices: list[Choice], job: Job, cluster: Cluster, card: str) -> Recommendation:
    there = [_choice(choice.option, job, cluster, card) for choice in choices if card in choice.fits_on]
    if not there:
        return Recommendation(card, None)
    best = min(choice.pace.hours for choice in there)
    return Recommendation(card, next(choice for choice in there if choice.pace.hours <= CLOSE * best))


def _cache(job: Job, options: Options, chosen: Option, cluster: Cluster) -> CachePlan | None:
    teaching, teacher = chosen.teaching, job.recipe.teacher
    if teaching is None or teacher is None or teaching.placement == "served":
        return None
    filled_by = "offload" if teaching.placement == "sharded" else teaching.placement

    def pace(way: Teaching) -> Pace:
        return _pace(options.option(chosen.strategy, way, chosen.checkpointing), job, cluster, cluster.card)

    online, cached = pace(Teaching(teaching.placement)), pace(Teaching(filled_by, cached=True))
    width = job.models.teacher.head_weight.shape[1] if job.models.teacher is not None else 0
    size = row_bytes(teacher.cache, int(width))
    return cache_plan(job, size, cached.before - online.before, online.step, cached.step)
