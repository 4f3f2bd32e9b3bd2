"""Which family of models a model belongs to, by an exact table of classes, or as the user says."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.models.protocol import Model
from taid_vlm_eval.protocols.loading import DEFAULT, load_protocol
from taid_vlm_eval.protocols.schema import Family, Protocol
from taid_vlm_eval.strict_yaml import read_yaml


@cache
def _table() -> dict[str, str]:
    with as_file(files("taid_vlm_eval") / "protocols" / "families.yaml") as path:
        found: dict[str, str] = read_yaml(Path(path))
    return found


FAMILIES: Mapping[str, str] = _table()


def family_of(described: Mapping[str, Any], protocol: Protocol) -> str:
    """The family of a model, from the class that it names of itself.

    Raises:
        UserError: a class that the table does not have, or whose family the protocol does not define.
    """
    name = str(described.get("class", ""))
    known = ", ".join(protocol.families)
    if name not in FAMILIES:
        what = f"models of the class {name}" if name else "a model that names no class of transformers"
        raise UserError(
            f"protocol {protocol.name!r} does not say how {what} are asked; --family NAME chooses one of {known}"
        )
    family = FAMILIES[name]
    if family not in protocol.families:
        raise UserError(
            f"protocol {protocol.name!r} does not define the family {family!r} (of the class {name}); --family NAME chooses "
            f"one of {known}"
        )
    return family


def require_family(name: str, protocol: Protocol) -> Family:
    """The family of that exact name.

    Raises:
        UserError: the protocol has none.
    """
    if name not in protocol.families:
        raise UserError(f"protocol {protocol.name!r} has no family {name!r}: {did_you_mean(name, protocol.families)}")
    return protocol.families[name]


def require_choice(protocol: str, family: str | None) -> None:
    """Refuse names that do not exist, and a family without a protocol.

    Raises:
        UserError: see above.
    """
    if protocol != DEFAULT:
        found = load_protocol(protocol)
        if family is not None:
            require_family(family, found)
    elif family is not None:
        raise UserError(f"family {family!r} is given without a protocol; --protocol NAME chooses one")


def choose_family(model: Model, protocol: str, family: str | None) -> str:
    """The family that a model is asked as, "" under ``default``: the one that is named, else that of its class.

    Raises:
        UserError: see :func:`require_choice`; or a class of no family.
    """
    require_choice(protocol, family)
    if protocol == DEFAULT:
        return ""
    return family if family is not None else family_of(model.describe(), load_protocol(protocol))
