"""Where a data set lies: a folder here, the cache of this toolkit, the cache of the hub, or the hub itself."""

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.secrets import without_secrets
from taid_vlm_eval.data.reach import why_unreachable
from taid_vlm_eval.task import Data

CARD = "README.md"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OFF = ("", "0", "false", "no", "off")


def is_offline() -> bool:
    """Whether the environment forbids the network: HF_HUB_OFFLINE or HF_DATASETS_OFFLINE, where "0" is off."""
    return any(os.environ.get(name, "").lower() not in _OFF for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


def why_no_hub() -> str:
    """Why the hub is not asked, "" when it is."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if is_offline() else without_secrets(why_unreachable(constants.ENDPOINT))


def own_folder(path: str) -> Path:
    """Where a data set that was laid by hand is looked for."""
    return cache_folder() / "data" / path


def data_set_folder(data: Data, beside: Path) -> Path:
    """The folder (or single parquet file) of a data set; fetched from the hub when it is not here.

    Looked for in this order: ``data.path`` as a path from ``beside``, ``<cache>/data/<hub id>``, the hub's cache and the hub.

    Raises:
        UserError: it is nowhere; the message says what to fetch and where to put it.
    """
    here = beside / Path(data.path).expanduser()
    for place in (here, own_folder(data.path)):
        if place.exists():
            return place
    if not _HUB_ID.fullmatch(data.path):
        raise UserError(f"no data at {here}; put it there, or change data.path of the task")
    return _from_hub(data)


def _from_hub(data: Data) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    kept: dict[str, Any] = {"repo_id": data.path, "repo_type": "dataset", "revision": data.revision or None}
    reason = why_no_hub()
    if not reason:
        try:
            names = HfApi().list_repo_files(**kept)
            card = Path(hf_hub_download(filename=CARD, **kept)).read_text(encoding="utf-8") if CARD in names else ""
            wanted = [name for config in configs_of(data) for name in choose_files(names, card, config, data.split)]
            wanted += [name for name in names if _may_be_joined(name, data)]
            return Path(snapshot_download(allow_patterns=[CARD, *wanted], **kept))
        except UserError:
            raise
        except Exception as error:  # the hub's client raises many types: HTTP, cache, timeouts, ...
            reason = without_secrets(" ".join(str(error).split()))[:200] or type(error).__name__
    try:
        folder = Path(snapshot_download(local_files_only=True, **kept))
        for config in configs_of(data):
            files_of(folder, config, data.split)  # it may hold other configs only
        return folder
    except Exception as error:
        version = f" --revision {data.revision}" if data.revision else ""
        raise UserError(
            f"the data set {data.path} is not here and was not fetched ({reason}); where there is a network, run "
            f"`hf download {data.path} --repo-type dataset{version}`, or put its files into {own_folder(data.path)}"
        ) from error


def _may_be_joined(name: str, data: Data) -> bool:
    """Whether a layout joins this file: GQA's pictures, MMLU's examples."""
    from taid_vlm_eval.data.layouts.gqa import PICTURES
    from taid_vlm_eval.data.layouts.mmlu_5_shot import SPLIT

    beginnings = {"gqa": f"{PICTURES}/", "mmlu_5_shot": f"all/{SPLIT}"}
    return data.layout in beginnings and name.startswith(beginnings[data.layout]) and name.endswith(".parquet")


def configs_of(data: Data) -> list[str]:
    """The configs that a task reads, "" where the data set has but one."""
    return [data.config] if isinstance(data.config, str) else list(data.config)


def files_of(root: Path, config: str, split: str) -> list[Path]:
    """The parquet files of one config and split, in order.

    Raises:
        UserError: there are none.
    """
    if root.is_file():
        return [root]
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))
    card = root / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    try:
        return [root / name for name in choose_files(names, text, config, split)]
    except UserError as error:
        raise UserError(f"{root}: {error}") from None


def choose_files(names: Sequence[str], card: str, config: str, split: str) -> list[str]:
    """Of the files of a data set those of one config and split: as its card says, else by the usual names.

    Raises:
        UserError: none of them.
    """
    names = sorted(name for name in names if name.endswith(".parquet"))
    folders = [f"{config}/", ""] if config else ["data/", "", "default/"]
    usual = [f"{folder}{split}{end}" for folder in folders for end in ("-*.parquet", "/*.parquet", ".parquet")]
    for pattern in [*_patterns_of_card(card, config, split), *usual]:
        found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if found:
            return found
    wanted = f"split {split!r}" + (f" of config {config!r}" if config else "")
    # What the usual file names say that there is.
    splits = {name.rsplit("/", 1)[-1].split("-0")[0].removesuffix(".parquet") for name in names}
    raise UserError(
        f"no parquet files of {wanted}: {did_you_mean(split, splits) if names else 'there are no parquet files at all'}"
    )


def _patterns_of_card(card: str, config: str, split: str) -> list[str]:
    """What the front matter of a card says of a config ("" is its default or only one) and a split."""
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return []
    try:
        configs = (yaml.safe_load(parts[1]) or {}).get("configs") or []
    except (yaml.YAMLError, AttributeError):
        return []
    for one in configs:
        named = one.get("config_name")
        if named == config or (not config and (named == "default" or one.get("default") or len(configs) == 1)):
            files = one.get("data_files") or []
            paths = [entry["path"] for entry in files if isinstance(entry, dict) and entry.get("split") == split]
            return [path for found in paths for path in (found if isinstance(found, list) else [found])]
    return []
