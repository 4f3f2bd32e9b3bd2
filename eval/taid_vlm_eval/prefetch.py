"""Work done ahead in threads, in order, and never more of it than was asked for."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Ahead(Generic[K, T]):
    """What ``make`` makes of keys, in the order in which they are put in.

    Args:
        workers: threads, and how many keys may wait beside the one that is taken next; without any, ``make`` is called when
            its result is taken.
    """

    def __init__(self, make: Callable[[K], T], pool: ThreadPoolExecutor | None, workers: int) -> None:
        self._make, self._pool = make, pool
        self._room = workers + 1
        self._waiting: deque[tuple[K, Future[T] | None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another key may be put in."""
        return len(self._waiting) < self._room

    def put(self, key: K) -> None:
        """Start on a key."""
        self._waiting.append((key, self._pool.submit(self._make, key) if self._pool is not None else None))

    def take(self) -> tuple[K, T]:
        """The first key that was put in and what was made of it; raises what making it raised."""
        key, made = self._waiting.popleft()
        return key, self._make(key) if made is None else made.result()


@contextmanager
def ahead(make: Callable[[K], T], workers: int) -> Iterator[Ahead[K, T]]:
    """An :class:`Ahead` whose threads end with the block; what was not begun by then is dropped."""
    if workers == 0:
        yield Ahead(make, None, 0)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        yield Ahead(make, pool, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
