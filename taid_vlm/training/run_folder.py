"""The folder of a run: what it is a run of, written before anything else and checked by every later start."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.file_lock import alone_or_not
from taid_vlm.common.files import disk_errors, write_atomic
from taid_vlm.common.versions import versions
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.recipe.plug_ins import plug_in_versions
from taid_vlm.training.checkpoint import complete_checkpoints
from taid_vlm.training.precision import choose_precision
from taid_vlm.training.trackers import KNOWN_AS

LOCK = ".lock"
PATIENCE = 10.0  # seconds: readers of data outlive a killed run by some, and its lock with them


@contextmanager
def held(run_dir: Path, recipe: Recipe, accelerator: Accelerator, origin: Mapping[str, Any] | None) -> Iterator[str]:
    """As :func:`claim`; until the end no other run of this machine is let in.

    Raises:
        UserError: somebody trains in the folder now; or see :func:`check_run_folder`.
    """
    with ExitStack() as until_the_end:
        if accelerator.is_main_process:
            check_run_folder(run_dir, recipe)  # before the lock is put into a folder of somebody else
            with disk_errors("the lock", run_dir):
                alone = until_the_end.enter_context(alone_or_not(run_dir / LOCK, PATIENCE))
            if not alone:
                raise UserError(
                    f"another process trains in {run_dir}: wait for its end, stop it, or choose another --output"
                )
        yield claim(run_dir, recipe, accelerator, origin)


def claim(run_dir: Path, recipe: Recipe, accelerator: Accelerator, origin: Mapping[str, Any] | None = None) -> str:
    """Write down what this folder is a run of, or check it; returns the precision, which must not change on the way.

    Args:
        origin: of the recipe, for people; see :func:`taid_vlm.recipe.origin.origin_of`.

    Raises:
        UserError: see :func:`check_run_folder`.
    """
    text = dump_recipe(recipe)
    about = check_run_folder(run_dir, recipe)
    if about is None or about["recipe"] != text:
        precision = choose_precision(recipe.training.precision, accelerator.device)
        about = {"recipe": text, "precision": precision, "device": str(accelerator.device)}
        about |= {"versions": versions() | plug_in_versions(recipe)}
        about |= {"origin": dict(origin)} if origin else {}
        if accelerator.is_main_process:
            for left in ("metrics.jsonl", KNOWN_AS):  # of another recipe's run, which had nothing to lose
                (run_dir / left).unlink(missing_ok=True)
            # Before any other file: it alone makes the folder a run's, so a kill at any moment leaves one that can be taken.
            write_atomic(run_dir / "run.json", json.dumps(about, indent=2) + "\n")
    copy = run_dir / "recipe.yaml"
    if accelerator.is_main_process and (not copy.is_file() or copy.read_text() != text):
        write_atomic(copy, text)
    return str(about["precision"])


def check_run_folder(run_dir: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Refuse a folder that ``recipe`` cannot be trained in; nothing is written.

    Returns:
        What ``run.json`` holds, or None where there is no run yet. Its recipe is another one when that run has
        nothing to lose: it stopped before its first checkpoint, often over a mistake in the recipe.

    Raises:
        UserError: the folder holds a run of another recipe, or files of somebody else.
    """
    file, text = run_dir / "run.json", dump_recipe(recipe)
    if not file.is_file():
        # Hidden files do not count: a kill leaves temporary ones, and a file manager its own.
        if run_dir.is_dir() and any(not path.name.startswith(".") for path in run_dir.iterdir()):
            raise UserError(f"{run_dir} is not empty and holds no run; choose another --output")
        return None
    about: dict[str, Any] = json.loads(file.read_text())
    begun = bool(complete_checkpoints(run_dir / "checkpoints")) or (run_dir / "student").exists()
    if about["recipe"] != text and begun:
        old, new = about["recipe"].splitlines(), text.splitlines()
        changed = [line.strip() for line in new if line not in old] or [line.strip() for line in old if line not in new]
        raise UserError(
            f"{run_dir} holds a run of another recipe (differs in: {'; '.join(changed[:3])}); choose another --output, or delete it"
        )
    return about
