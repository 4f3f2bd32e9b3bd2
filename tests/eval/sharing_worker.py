"""Evaluates one task in forked processes that share the work and may be killed. Prints what happened as JSON.

Arguments: a task's file, an output folder, and rounds as JSON: lists of processes that run at the same time, each with what kills
it (see :data:`DEATHS`) and after how many times, or null.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel

BATCH = 4


class KnowsItsBatch(FakeModel):
    """An answer here tells which requests were asked together, so that runs which cut other batches differ."""

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        self.tried.append(len(requests))
        time.sleep(0.002)
        together = sha256("|".join(request.prompt for request in requests).encode()).hexdigest()[:8]
        return [f"{request.prompt} {together}" for request in requests]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(call: Callable[..., Any], count: int, first: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, but ``first`` and then death at the ``count``-th time."""
    times = [0]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        times[0] += 1
        if times[0] == count:
            first(*arguments, **named)
            die()
        return call(*arguments, **named)

    return wrapped


def in_the_middle_of_a_line(count: int) -> None:
    write = os.pwrite
    os.pwrite = dying(write, count, lambda handle, lines, place: write(handle, lines[: len(lines) * 2 // 3], place))


def holding_claims(count: int) -> None:
    KnowsItsBatch.generate = dying(KnowsItsBatch.generate, count, lambda *args: None)  # type: ignore[method-assign]


def before_the_claim_is_given_back(count: int) -> None:
    write = os.pwrite
    os.pwrite = dying(write, count, write)


def before_a_file_gets_its_name(count: int) -> None:
    os.replace = dying(os.replace, count, lambda *args: None)


DEATHS = [
    in_the_middle_of_a_line,
    holding_claims,
    before_the_claim_is_given_back,
    before_a_file_gets_its_name,
]


def start(task: Path, out: Path, death: tuple[str, int] | None, workers: int) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        if death is not None:
            globals()[death[0]](death[1])
        evaluate(KnowsItsBatch(), [task], output_dir=out, batch_size=BATCH, workers=workers)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    task, out, rounds = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    ends = []
    for number, deaths in enumerate(rounds):
        pids = [start(task, out, death, number % 3) for death in deaths]
        ends.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
