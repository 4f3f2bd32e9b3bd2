"""The one exception a user is meant to read."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in the input, told as: what was found, what was expected, what to do next.

    The command line prints the message alone and exits with status 1; code that calls the
    library can catch it.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence that lists the names closest to ``name``, or all of them when none is close."""
    names = sorted(known)
    return close_names(name, names) or "known names: " + (", ".join(names) if names else "none")


def close_names(name: str, known: Iterable[str]) -> str:
    """A half-sentence that lists the names closest to ``name``; empty when none is close."""
    close = get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return "did you mean " + " or ".join(map(repr, close)) + "?" if close else ""
