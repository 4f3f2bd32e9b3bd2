"""Which sample lies in which shard: ``index.json``, which saves reading the headers of all shards.

The shards are the truth. An index that is missing, damaged or behind is made good from the headers of the shards that it does not know, so
whoever writes it last, and whatever was killed before it did, nothing is lost.
"""

import json
import sys
from pathlib import Path

from taid_vlm.common.files import sha256_of, write_atomic
from taid_vlm.training.cache.shards import NAME, Shard, damaged, read_header

FORMAT = 1


class Index:
    """The shards of a folder.

    Attributes:
        places: shard of each sample by key; where two runs have computed one, that with the lower name.

    Raises:
        UserError: a shard is shorter or longer than it was, or has no readable header.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "index.json"
        self.shards: dict[str, Shard] = {}
        self.places: dict[str, Shard] = {}
        self.refresh(self._written())

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def refresh(self, written: dict[str, Shard] | None = None) -> None:
        """See what is in the folder now."""
        known = self.shards | (written or {})
        files = sorted(path for path in self.folder.glob("*.safetensors") if NAME.fullmatch(path.name))
        found = {}
        for file in files:
            shard = known.get(file.stem) or read_header(file)
            size = file.stat().st_size
            if size != shard.size:
                if sha256_of(file) != file.stem:
                    raise damaged(file, f"it has {size} bytes, {shard.size} were written")
                shard = read_header(file)  # the index is wrong
            found[file.stem] = shard
        if found != self.shards:
            self.shards, self.places = found, {}
            for shard in found.values():
                for key in shard.rows:
                    self.places.setdefault(key, shard)

    def add(self, shard: Shard) -> None:
        """Note a shard that has just been written."""
        self.shards[shard.sha256] = shard
        for key in shard.rows:
            self.places.setdefault(key, shard)

    def write(self) -> None:
        """Write ``index.json`` for all shards that are in the folder, if it says something else."""
        self.refresh()
        if not self.shards or self._written() == self.shards:
            return
        content = {
            "format": FORMAT,
            "shards": {
                sha256: {
                    "file": shard.file,
                    "sha256": sha256,
                    "bytes": shard.size,
                    "rows": sum(shard.rows.values()),
                    "samples": shard.rows,
                }
                for sha256, shard in sorted(self.shards.items())
            },
        }
        write_atomic(self.file, json.dumps(content, separators=(",", ":")) + "\n")

    def rows(self, key: str) -> int:
        """Rows of a sample."""
        return self.places[key].rows[key]

    @property
    def memory(self) -> int:
        """Bytes that the index takes in memory, about."""
        entries = sum(sys.getsizeof(key) for key in self.places) + sys.getsizeof(self.places)
        return entries + sum(sys.getsizeof(shard.rows) for shard in self.shards.values())

    def _written(self) -> dict[str, Shard]:
        try:
            content = json.loads(self.file.read_text())
            if content["format"] != FORMAT:
                return {}
            entries = content["shards"].items()
            return {sha256: Shard(sha256, int(one["bytes"]), dict(one["samples"])) for sha256, one in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # it is only a shortcut
