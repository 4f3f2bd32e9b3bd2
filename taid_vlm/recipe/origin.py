"""Where a recipe comes from: the name it was asked for by, the overrides, and what differs from its base."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from taid_vlm.common.secrets import hidden_in, without_secrets
from taid_vlm.recipe.loading import find_recipe
from taid_vlm.recipe.source import apply_override, read_source


def origin_of(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a run writes down of its recipe, as JSON values.

    Returns:
        ``recipe`` (the name), ``overrides``, ``base`` (the file that it names as its base, "" for none) and ``changes``: each key of
        the recipe that is not as in the base, as ``[key, value there, value here]``; None stands for a key that is not there.

    Raises:
        UserError: as ``load_recipe``, before the schema is looked at.
    """
    file = find_recipe(name)
    source = read_source(file)
    named = (yaml.safe_load(file.read_text()) or {}).get("base")
    below = read_source(file.resolve().parent / named).content if named else {}
    for text in overrides:
        source = apply_override(source, text)
    changes = differences(below, source.content) if named else []
    # An override that another one replaced, or a base's value, is no part of the recipe that was looked at.
    return {
        "recipe": without_secrets(name),
        "overrides": hidden_in(overrides),
        "base": without_secrets(str(named or "")),
        "changes": hidden_in(changes),
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[list[Any]]:
    """``[key, value in one, value in other]`` for each dotted key whose values differ, in the order of ``other``, then of ``one``."""
    first, second = flat(one), flat(other)
    keys = [*second, *(key for key in first if key not in second)]
    return [[key, first.get(key), second.get(key)] for key in keys if first.get(key) != second.get(key)]


def flat(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted key; a list is one value, and so is an empty mapping."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        dotted = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{dotted}.")
        else:
            found[dotted] = value
    return found
