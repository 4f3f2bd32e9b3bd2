"""A question that others answer, given up after a time: looking up a name, and some clients, have no limit of their own."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises. It runs in a thread of its own, which goes on where it is given up.

    Raises:
        TimeoutError: it took longer.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return returned[0]
