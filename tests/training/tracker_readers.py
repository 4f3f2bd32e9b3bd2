"""What each library of trackers wrote, read by the library itself: figures by name and step, settings, names of runs, how they ended."""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768  # of the log format that W&B's files have


@dataclass
class Written:
    """Of all runs in a store.

    Attributes:
        figures: name to ``(step, value)`` in the order in which they were written.
        settings: as the library has them. runs: what it calls them. ended: their state, where it has one.
    """

    figures: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)

    def add(self, name: str, step: int, value: float) -> None:
        self.figures.setdefault(name, []).append((step, value))


def read_tensorboard(run_dir: Path) -> Written:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = Written()
    events = EventAccumulator(str(run_dir / "tensorboard" / "taid-vlm"), size_guidance={"scalars": 0}).Reload()
    for name in events.Tags()["scalars"]:
        for one in events.Scalars(name):
            written.add(name, one.step, one.value)
    return written


def read_wandb(run_dir: Path) -> Written:
    """Offline runs, in the order in which they were begun."""
    from wandb.proto import wandb_internal_pb2

    written = Written()
    for file in sorted(run_dir.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        for record in _records(file.read_bytes()):
            told: Any = wandb_internal_pb2.Record.FromString(record)
            kind = told.WhichOneof("record_type")
            if kind == "run":
                written.runs.add(f"{told.run.run_id} {told.run.display_name}")
            if kind in ("run", "config"):
                config = told.config if kind == "config" else told.run.config
                for one in config.update:
                    written.settings["/".join(one.nested_key) or one.key] = json.loads(one.value_json)
            if kind == "exit":
                written.ended.append(str(told.exit.exit_code))
            if kind == "history":
                figures = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in told.history.item}
                step = figures.pop("_step")
                for name, value in figures.items():
                    if not name.startswith("_"):
                        written.add(name, step, value)
    return written


def _records(content: bytes) -> Iterator[bytes]:
    """Of a file of blocks: each piece has four bytes of sum, its length, and whether it is whole (1), first, in the middle or last."""
    place, held = 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        held += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield held
            held = b""


def read_mlflow(run_dir: Path) -> Written:
    from mlflow import MlflowClient

    written, client = Written(), MlflowClient()
    experiment = client.get_experiment_by_name("taid-vlm")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        written.runs.add(f"{run.info.run_id} {run.info.run_name}")
        written.ended.append(run.info.status)
        written.settings |= run.data.params
        for name in run.data.metrics:
            for one in client.get_metric_history(run.info.run_id, name):
                written.add(name, one.step, one.value)
    return written


def read_trackio(run_dir: Path) -> Written:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    written = Written()
    for run in trackio.Api().runs("taid-vlm"):
        if run.name == run_dir.name:
            written.runs.add(f"{run.id} {run.name}")
            written.settings |= run.config or {}
            for row in SQLiteStorage.get_logs("taid-vlm", run.name, run_id=run.id):
                for name, value in row.items():
                    if name not in ("step", "timestamp"):
                        written.add(name, row["step"], value)
    return written


READERS: dict[str, Callable[[Path], Written]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}
