"""YAML of others, before it is gone through: a few lines of aliases can stand for billions of values, or for one inside of itself."""

from typing import Any

from taid_vlm.common.errors import UserError

MOST = 100_000


def check_size(node: Any, where: str) -> None:
    """Count the values of what ``yaml.compose`` gave, aliases as often as they are used, and stop where it is too many.

    Raises:
        UserError: more than ``MOST`` values.
    """
    waiting, seen = [node], 0
    while waiting:
        value = waiting.pop().value
        seen += 1
        if seen > MOST:
            raise UserError(
                f"{where} stands for more than {MOST:,} values, or holds itself: write out what its aliases (*name) mean"
            )
        for one in value if isinstance(value, list) else []:
            waiting += one if isinstance(one, tuple) else (one,)
