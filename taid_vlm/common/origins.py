"""Where a model or a data set is from, and what is known of it without a network: its id on the hub, its licence, its languages."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from taid_vlm.common.assets import ASSETS, PREFIX
from taid_vlm.common.errors import UserError
from taid_vlm.common.markdown import read_card
from taid_vlm.common.paths import FOLDERS, resolve

UNKNOWN = "unknown"
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # of a name that a hub knows; "MIT, its text ..." is none
NO_LICENCE = ("other", UNKNOWN)


@dataclass(frozen=True)
class Origin:
    """A model, or a data set.

    Attributes:
        name: as people can be told of it; of a folder on this machine no more than its own name.
        hub: its id on the model hub, "" where it is from elsewhere.
        licence: as its package or its card names it, ``unknown`` where neither is here.
        languages: that its card names.
    """

    name: str
    hub: str = ""
    licence: str = UNKNOWN
    languages: tuple[str, ...] = ()


def origin_of(source: str, kind: Literal["model", "dataset"] = "model", revision: str | None = None) -> Origin:
    """What is known of a source as a recipe names it: hub id, folder or file, ``asset:``, ``recipes:`` or ``cache:``.

    It raises nothing: a card is written when a student is trained, and must not stand in the way of saving it.
    """
    try:
        return _known(source, kind, revision)
    # Gone since, not to be read, no home of ~user, no path at all.
    except (OSError, RuntimeError, ValueError, UserError):
        return Origin(source)


def _known(source: str, kind: str, revision: str | None) -> Origin:
    if source.startswith(PREFIX):
        name = source.removeprefix(PREFIX).partition("/")[0]
        asset = ASSETS.get(name)
        named = f"{asset.package} {asset.version} (package index)" if asset else source
        return Origin(named, licence=asset.licence if asset else UNKNOWN)
    if source.partition(":")[0] in FOLDERS:
        return _with_card(Origin(source), Path(resolve(source)))
    place = Path(source).expanduser()
    if source.startswith(("./", "../", "/", "~")) or place.exists() or not _is_hub_id(source):
        return _with_card(Origin(f"{place.name} (local)"), place)
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(source, "README.md", repo_type=kind, revision=revision)
    return _with_card(Origin(source, source), Path(card) if isinstance(card, str) else None)


def shared_licence(origins: list[Origin]) -> str:
    """The hub's name of the licence that all are under; "" where one is unknown, or they differ."""
    found = {origin.licence.lower() for origin in origins}
    licence = found.pop() if len(found) == 1 else ""
    return licence if LICENCE.fullmatch(licence) and licence not in NO_LICENCE else ""


def about_licence(origins: list[Origin], whose: str, follows: str) -> str:
    """What a card says of the licence of what was made from these.

    Args:
        whose: "student", or "data set". follows: from what its licence does.
    """
    if licence := shared_licence(origins):
        return f"All of these are under {licence}, which is named above as the licence of this {whose}."
    unknown = sum(origin.licence == UNKNOWN for origin in origins)
    why = f"that of {unknown} of {len(origins)} sources is unknown here" if unknown else "its sources share none"
    return (
        f"No licence is claimed for this {whose}: {why}. It follows from {follows}; look them up, and name it in the field `license` above before "
        f"publishing."
    )


def _is_hub_id(source: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def _with_card(origin: Origin, place: Path | None) -> Origin:
    """With what a card says, itself or in its folder."""
    card = place / "README.md" if place is not None and place.is_dir() else place
    if card is None or card.name != "README.md" or not card.is_file():
        return origin
    fields, _ = read_card(card.read_text(encoding="utf-8", errors="replace"))
    return Origin(origin.name, origin.hub, _licence(fields), tuple(_texts(fields.get("language"))))


def _licence(fields: dict[str, Any]) -> str:
    named = _texts(fields.get("license"))
    if named == ["other"]:
        named = _texts(fields.get("license_name")) or named
    return ", ".join(named) or UNKNOWN


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]
