"""YAML files as dataclasses: no unknown key, no missing one, none twice, no coercion."""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.yaml_size import check_size


def read_yaml(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        UserError: unreadable, or a key given twice.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        check_size(node, str(path))
        _refuse_repeated_keys(node, path)
        return loader.construct_document(node)
    # ValueError: not UTF-8, or a date that is none ("2024-13-45").
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _refuse_repeated_keys(node: Any, path: Path) -> None:
    """YAML lets the last of two equal keys win in silence."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # the loader refuses these
        if key.value in seen:
            raise UserError(f"{path}, line {key.start_mark.line + 1}: key {key.value!r} is given twice; keep one")
        seen.add(key.value)
        _refuse_repeated_keys(value, path)


def build(kind: type, given: Any, where: str) -> Any:
    """An instance of the dataclass ``kind`` from a mapping, strictly: no unknown key, no missing one, no coercion.

    Raises:
        UserError: it begins with ``where`` and names the key.
    """
    if not isinstance(given, dict):
        raise UserError(f"{where}: found {type(given).__name__}, expected keys and values")
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise UserError(f"{where}: unknown key {key!r}: {did_you_mean(str(key), hints)}")
    values = {}
    for entry in fields(kind):
        if entry.name not in given:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise UserError(f"{where}: key {entry.name!r} is missing")
            continue
        value, hint = given[entry.name], hints[entry.name]
        if isinstance(hint, type) and is_dataclass(hint):
            value = build(hint, value, f"{where}: {entry.name}")
        elif not _fits(value, hint):
            raise UserError(
                f"{where}: {entry.name} is {value!r} ({type(value).__name__}), expected {_kind(hint)}"
                + ("; put it in quotes" if hint is str else "")
            )
        values[entry.name] = value
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is not None:  # a choice of kinds
        return any(_fits(value, one) for one in inner)
    # A YAML true is an int to Python; it is none here.
    return hint is Any or (isinstance(value, hint) and (hint is bool or not isinstance(value, bool)))


_KINDS = {str: "text", int: "a whole number", bool: "true or false", type(None): "nothing", Any: "anything"}


def _kind(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        return f"keys and values, each {_kind(inner[1])}"
    if origin is list:
        return f"a list, each entry {_kind(inner[0])}"
    return _KINDS[hint] if origin is None else " or ".join(map(_kind, inner))
