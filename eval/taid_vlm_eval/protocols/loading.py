"""Read the files of protocols: one may be based on another, and a family may be like another."""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.protocols.schema import KINDS, Family, FamilyTask, Protocol, ProtocolTask
from taid_vlm_eval.strict_yaml import build, read_yaml
from taid_vlm_eval.style import Wording

DEFAULT = "default"
PROTOCOLS = (DEFAULT, "openvlm-2025-01", "openvlm-current")
_KEYS = ("base", "description", "judge", "wordings", "tasks", "families", "averages")


@cache
def load_protocol(name: str) -> Protocol:
    """A protocol by its exact name, but for ``default``, which has no file.

    Raises:
        UserError: no such protocol.
    """
    if name not in PROTOCOLS[1:]:
        raise UserError(f"unknown protocol {name!r}: {did_you_mean(name, PROTOCOLS)}")
    return parse_protocol(name, _read(name))


def _read(name: str) -> dict[str, Any]:
    with as_file(files("taid_vlm_eval") / "protocols") as folder:
        content = read_yaml(Path(folder) / f"{name}.yaml")
    base = content.pop("base", None)
    whole: dict[str, Any] = content if base is None else merged(_read(base), content)
    return whole


def merged(base: Any, changes: Any) -> Any:
    """Mappings are merged, at every depth; anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: merged(base[key], value) if key in base else value for key, value in changes.items()}}


def parse_protocol(name: str, content: dict[str, Any]) -> Protocol:
    """A protocol from what its file says.

    Raises:
        UserError: unknown or missing keys, values of the wrong kind, a wording or family that is named and not there.
    """
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{name}: unknown key {key!r}: {did_you_mean(str(key), _KEYS)}")
    wordings = {key: build(Wording, one, f"{name}: wording {key}") for key, one in content["wordings"].items()}
    tasks = {key: build(ProtocolTask, one, f"{name}: task {key}") for key, one in content["tasks"].items()}
    raw = content["families"]
    families = {key: _family(key, _like(key, raw), f"{name}: family {key}") for key in raw}
    found = Protocol(name, content["description"], content["judge"], wordings, tasks, families, content["averages"])
    _check(found)
    return found


def _like(key: str, raw: dict[str, Any]) -> dict[str, Any]:
    content = dict(raw[key])
    other = content.pop("like", None)
    return content if other is None else merged(_like(other, raw), content)


def _family(key: str, content: dict[str, Any], where: str) -> Family:
    tasks = {name: build(FamilyTask, one, f"{where}: task {name}") for name, one in content.pop("tasks", {}).items()}
    plain = build(Family, {**content, "tasks": {}}, where)
    return Family(**{**vars(plain), "tasks": tasks})


def _check(protocol: Protocol) -> None:
    for name, task in protocol.tasks.items():
        if task.kind not in KINDS:
            raise UserError(
                f"{protocol.name}: task {name}: unknown kind {task.kind!r}: {did_you_mean(task.kind, KINDS)}"
            )
    for name, family in protocol.families.items():
        named = [*family.kinds.values(), *(one.wording for one in family.tasks.values() if one.wording)]
        for wording in named:
            if wording not in protocol.wordings:
                known = did_you_mean(wording, protocol.wordings)
                raise UserError(f"{protocol.name}: family {name}: unknown wording {wording!r}: {known}")
        for task_name in family.tasks:
            if task_name not in protocol.tasks:
                raise UserError(f"{protocol.name}: family {name}: the protocol has no task {task_name!r}")
        if set(family.kinds) != set(KINDS):
            raise UserError(
                f"{protocol.name}: family {name}: kinds are {sorted(family.kinds)}, expected {sorted(KINDS)}"
            )
