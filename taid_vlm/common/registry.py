"""Registries that match exact names only: no substrings, no prefixes, no paths."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import PlugIn, near_or_outside, plug_in, plug_ins

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to things of one kind.

    >>> losses: Registry[type] = Registry("loss")
    >>> @losses.register("taid")
    ... class Taid: ...
    >>> losses.get("taid") is Taid
    True

    Iterating gives the built-in names; with a ``group`` the names of plug-ins can be asked for too.

    Args:
        group: of entry points, by which installed packages bring further entries (see :mod:`taid_vlm.common.plug_ins`); empty for none.
        adopt: makes an entry of what a package brings, or raises ``UserError``; without it that is the entry.
    """

    def __init__(self, kind: str, group: str = "", adopt: Callable[[PlugIn, Any], T] | None = None) -> None:
        self.kind, self.group, self._adopt = kind, group, adopt
        self._entries: dict[str, T] = {}
        self._asked: dict[str, T] = {}  # those that were found once

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
            UserError: no such entry; the message lists the close names. Or a package brings it, which has a name twice or cannot be
                imported.
        """
        if name not in self._asked:
            self._asked[name] = self._find(name)
        return self._asked[name]

    def names(self) -> list[str]:
        """Built-in names, then those of installed packages, which are not imported for it."""
        outside = [one.name for one in plug_ins(self.group)] if self.group else []
        return [*self._entries, *(name for name in outside if name not in self._entries)]

    def _find(self, name: str) -> T:
        found = plug_in(self.group, name, built_in=name in self._entries) if self.group else None
        if found is not None:
            return self._adopt(found, found.load()) if self._adopt is not None else found.load()
        if name not in self._entries:
            near = near_or_outside if self.group else did_you_mean
            raise UserError(f"unknown {self.kind} {name!r}: {near(name, self.names())}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
