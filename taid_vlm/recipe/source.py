"""Recipe files as plain data, with the place of every key for error messages."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.common.yaml_size import check_size

Keys = tuple[str, ...]
# Keys whose value may be a folder or file; written with a leading ./ or ../ it is relative to the recipe.
PATH_KEYS = {"checkpoint", "path", "source", "name", "weights", "chat_template", "tasks"}


@dataclass
class Source:
    """Merged content of a recipe and its bases, and where each key was written last."""

    content: dict[str, Any]
    places: dict[Keys, str] = field(default_factory=dict)

    def place(self, keys: Keys) -> str:
        """``file:line`` of a key, or of the nearest key above it."""
        while keys and keys not in self.places:
            keys = keys[:-1]
        return self.places.get(keys, "recipe")


def read_source(path: Path, below: tuple[Path, ...] = ()) -> Source:
    """Read a YAML file and the file that its ``base`` key names, the nearer one winning key by key.

    Raises:
        UserError: missing or unreadable file, YAML that is not a mapping, a key given twice, bases in a circle.
    """
    path = path.resolve()
    if path in below:
        raise UserError(f"{path.name} is its own base: " + " -> ".join(p.name for p in (*below, path)))
    if not path.is_file():
        raise UserError(f"recipe not found: {path}")
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path.name} holds no keys; a recipe is a mapping such as student: ..., data: ...")
    check_size(node, path.name)
    source = Source({})
    content = _plain(node, (), path, source.places)
    base = content.pop("base", None)
    source.content = content
    if base is None:
        return source
    if not isinstance(base, str):
        raise UserError(f"{source.place(('base',))}: base must be the name of a recipe file, found {base!r}")
    if not (path.parent / base).is_file():
        raise UserError(
            f"{source.place(('base',))}: base {base!r} is no file beside {path.name}; a shipped recipe becomes one with "
            f"taid-vlm recipes cp NAME base.yaml"
        )
    return merge(read_source(path.parent / base, (*below, path)), source)


def merge(lower: Source, upper: Source) -> Source:
    """``upper`` over ``lower``: mappings key by key, everything else replaced; ``null`` removes a value."""
    return Source(_merged(lower.content, upper.content), {**lower.places, **upper.places})


def apply_override(source: Source, text: str) -> Source:
    """``a.b.c=value`` over a recipe; the value is read as YAML.

    Raises:
        UserError: no equals sign, an empty key, or a value that is not YAML.
    """
    key, sign, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not sign or not all(keys):
        raise UserError(f"override {text!r} is not of the form key.path=value, for example training.steps=100")
    try:
        content: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {text!r}: the value is not valid YAML") from error
    for name in reversed(keys):
        content = {name: content}
    return merge(source, Source(content, {keys: f"override {text!r}"}))


def _plain(node: yaml.MappingNode, keys: Keys, path: Path, places: dict[Keys, str]) -> dict[str, Any]:
    loader = yaml.SafeLoader("")
    content: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key: Hashable = loader.construct_object(key_node)
        name = str(key)
        here = (*keys, name)
        place = f"{path.name}:{key_node.start_mark.line + 1}"
        if name in content:
            raise UserError(f"{place}: the key {name!r} is given twice")
        places[here] = place
        content[name] = _value(value_node, here, path, places, loader)
    return content


def _value(node: yaml.Node, keys: Keys, path: Path, places: dict[Keys, str], loader: yaml.SafeLoader) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _plain(node, keys, path, places)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = (*keys, str(index))
            places[here] = f"{path.name}:{item.start_mark.line + 1}"
        return [_value(item, (*keys, str(i)), path, places, loader) for i, item in enumerate(node.value)]
    value = loader.construct_object(node)
    named = next(key for key in reversed(keys) if not key.isdigit())  # an item of a list goes by the list's key
    if isinstance(value, str) and named in PATH_KEYS and value.startswith(("./", "../")):
        return str((path.parent / value).resolve())
    return value


def _merged(lower: Any, upper: Any) -> Any:
    if not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    return {**lower, **{key: _merged(lower.get(key), value) for key, value in upper.items()}}
