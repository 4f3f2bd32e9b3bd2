"""Evaluates one task in forked processes of unlike batch sizes, and notes every question that is asked.

Arguments: a task's file, an output folder, a file for the questions, and rounds as JSON: lists of processes that run at the same
time, each with its batch size and after how many batches it is killed, or null.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel


class Notes(FakeModel):
    """Answers by the question alone; dies in the middle of a batch."""

    def __init__(self, notes: Path, dies_at: int | None) -> None:
        super().__init__()
        self.notes, self.dies_at = notes, dies_at

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        with self.notes.open("a") as file:  # one write, so lines of several processes are not mixed
            file.write("".join(f"{request.prompt}\n" for request in requests))
        time.sleep(0.003)
        self.tried.append(len(requests))
        if len(self.tried) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return [f"said {request.prompt}" for request in requests]


def main() -> None:
    task, out, notes, rounds = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    for processes in rounds:
        pids = []
        for size, dies_at in processes:
            if pid := os.fork():
                pids.append(pid)
                continue
            status = 1
            try:
                evaluate(Notes(notes, dies_at), [task], output_dir=out, batch_size=size)
                status = 0
            finally:
                os._exit(status)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        wanted = [0 if dies_at is None else -signal.SIGKILL for _, dies_at in processes]
        assert ends == wanted, ends


if __name__ == "__main__":
    main()
