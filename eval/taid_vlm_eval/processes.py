"""More processes of one command on this machine, which help with its answers; the one that the user started scores and writes."""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from taid_vlm.common.errors import UserError

_END = 15.0  # seconds that helpers have to end by themselves once everything is answered
_THREADS = "OMP_NUM_THREADS"  # what torch goes by; who set it wants it so


class Helpers:
    """Processes that make the same call as this one, but finish nothing. One of them that fails ends all.

    Args:
        settings: arguments of :func:`taid_vlm_eval.cli.run`.
        count: how many, beside this one.
    """

    def __init__(self, settings: Mapping[str, Any], count: int) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        threads = str(_share_of_cores(count + 1))
        for number in range(1, count + 1):
            told = tempfile.TemporaryFile()  # noqa: SIM115 (closed when nobody refers to it)
            command = [sys.executable, "-m", "taid_vlm_eval.processes"]
            paths = os.pathsep.join(path for path in sys.path if path)
            environment = {_THREADS: threads, **os.environ, "PYTHONPATH": paths}
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=told, stdout=told, env=environment)
            self._running.append((process, told))
            assert process.stdin is not None
            # The pipe stays open: when it ends, the helper knows that this process is gone.
            try:
                pickle.dump(
                    {**settings, "device": device_of(settings.get("device"), number), "helps": True}, process.stdin
                )
                process.stdin.flush()
            except BrokenPipeError:
                self.check()

    def check(self) -> None:
        """Raise what a helper ended with.

        Raises:
            UserError: one failed; the message has what it said last.
        """
        for process, told in self._running:
            if process.poll() not in (None, 0):
                told.seek(0)
                lines = told.read().decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"]
                raise UserError(f"a process beside this one stopped: {lines[-1].removeprefix('error: ')}")

    def end(self, wait: float) -> None:
        """Let them end by themselves for some seconds, then end them."""
        for process, _ in self._running:
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()


@contextmanager
def helpers(settings: Mapping[str, Any], processes: int) -> Iterator[Helpers]:
    """Helpers for as long as the block lasts, and this process on its share of the cores.

    Raises:
        UserError: fewer processes than one.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}, expected 1 or more")
    started = Helpers(settings, processes - 1)
    try:
        with _share_of_threads(processes):
            yield started
    except BaseException:
        started.end(0.0)
        raise
    started.end(_END)


def _share_of_cores(processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


@contextmanager
def _share_of_threads(processes: int) -> Iterator[None]:
    if processes == 1 or _THREADS in os.environ:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(_share_of_cores(processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Place:
    """A process among those of one command: its ``device``, and whether it is the ``first`` one, which prints, scores and writes."""

    device: str | None
    first: bool


def place_of(wanted: str | None, processes: int) -> Place:
    """Where this process stands: beside helpers that it will start, among those that torchrun or accelerate started, or alone.

    Raises:
        UserError: both at once.
    """
    rank, local = os.environ.get("RANK"), os.environ.get("LOCAL_RANK")
    if rank is None or local is None:
        return Place(wanted if processes == 1 else device_of(wanted, 0), first=True)
    if processes > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"found {processes} processes to start, and a launcher that started {os.environ['WORLD_SIZE']}; leave one of them out"
        )
    return Place(device_of(wanted, int(local)), first=int(rank) == 0)


def device_of(wanted: str | None, number: int) -> str | None:
    """The device of the process of a number: with several GPUs and no single one named, the next of them."""
    if wanted not in (None, "cuda"):
        return wanted
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count > 1 else wanted


def _main() -> None:
    settings = pickle.load(sys.stdin.buffer)

    def end_with_the_first() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    from taid_vlm_eval.cli import run

    try:
        run(**settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main()
