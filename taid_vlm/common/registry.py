"""Registries that match exact names only: no substrings, no prefixes, no paths."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from taid_vlm.common.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to things of one kind.

    >>> losses: Registry[type] = Registry("loss")
    >>> @losses.register("taid")
    ... class Taid: ...
    >>> losses.get("taid") is Taid
    True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files its argument under ``name``; a name can be taken once.

        Raises:
            ValueError: the name is taken (a mistake of the programmer, not of a user).
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """The entry filed under exactly ``name``.

        Raises:
            UserError: no such entry; the message lists the close names.
        """
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} {name!r}: {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
