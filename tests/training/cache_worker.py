"""Fills a cache in processes that are killed, or that run at once. Arguments: a recipe's file, and "kill", "both" or "quiet".
Prints what happened as JSON.

The processes are forked, so that the libraries are imported once; each builds its models by itself.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from taid_vlm.recipe import load_recipe
from taid_vlm.training.cache import fill, index, shards, store
from tests.training.cache_cases import set_up

fill.BATCH, store.SHARD_SAMPLES = 2, 4


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_shards(count: int) -> Callable[[], None]:
    """Die when so many shards are there, before anything notes it."""

    def patch() -> None:
        write, written = store.write_shard, [0]

        def counting(*arguments: object) -> object:
            done = write(*arguments)  # type: ignore[arg-type]
            written[0] += 1
            if written[0] == count:
                die()
            return done

        store.write_shard = counting  # type: ignore[assignment]

    return patch


def inside_a_shard() -> None:
    shards.sha256_of = lambda path: die()  # type: ignore[assignment, return-value, misc]


def before_the_index() -> None:
    index.write_atomic = lambda *arguments: die()  # type: ignore[assignment]


def child(recipe: Path, patch: Callable[[], None]) -> int:
    """Pid of a process that fills the cache."""
    pid = os.fork()
    if pid:
        return pid
    torch.set_num_threads(1)
    patch()
    try:
        set_up(load_recipe(str(recipe), []))
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """Exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_later(recipe: Path, seconds: float) -> int:
    pid = child(recipe, lambda: None)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


if __name__ == "__main__":
    recipe, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "kill":
        patches = [inside_a_shard, after_shards(1), inside_a_shard, after_shards(2), before_the_index]
        statuses = [ended(child(recipe, patch)) for patch in patches[:4]]
        generator = random.Random(0)
        statuses += [killed_later(recipe, generator.uniform(0.1, 1.5)) for _ in range(4)]
        statuses += [ended(child(recipe, before_the_index)), ended(child(recipe, lambda: None))]
    else:
        pids = [child(recipe, lambda: None) for _ in range({"quiet": 1, "both": 2}[mode])]
        statuses = [ended(pid) for pid in pids]
    print(json.dumps(statuses))
