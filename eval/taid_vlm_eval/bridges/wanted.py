"""What another harness wants of an answer, from the arguments of generation that its tasks give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError

# Names of one and the same limit; the first that is there counts.
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Wanted:
    """Greedy answers of at most so many tokens, each up to the first of the stops."""

    max_new_tokens: int
    stops: tuple[str, ...] = ()


def wanted(arguments: Mapping[str, Any], usual: int) -> Wanted:
    """Read arguments of generation.

    Args:
        usual: tokens of an answer where the task names no limit.

    Raises:
        UserError: the task samples, or searches with beams.
    """
    heat = arguments.get("temperature")
    samples = arguments.get("do_sample")
    if samples is None:
        samples = heat is not None and float(heat) > 0
    if samples and (heat is None or float(heat) > 0):
        raise UserError(
            f"the task samples its answers (temperature {heat}), and answers here are greedy; set do_sample=False and "
            f"temperature=0 in the task, or by the harness's --gen_kwargs"
        )
    if int(arguments.get("num_beams") or 1) > 1:
        raise UserError(
            f"the task searches with {arguments['num_beams']} beams, and answers here are greedy; set num_beams=1"
        )
    limit = next((int(arguments[name]) for name in LIMITS if arguments.get(name) is not None), usual)
    stops = arguments.get("until") or ()
    return Wanted(limit, tuple(filter(None, [stops] if isinstance(stops, str) else stops)))
