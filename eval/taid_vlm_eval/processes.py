"""More processes of one command on this machine, which help with its answers; the one that the user started scores and writes."""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.telling import tell

_END = 15.0  # seconds that helpers have to end by themselves once everything is answered
_KILL = 5.0  # seconds that one has once it was told to end
_SAID = "said: "  # begins a line that is for the user
_THREADS = "OMP_NUM_THREADS"  # what torch goes by; who set it wants it so


class Helpers:
    """Processes that make the same call as this one, but finish nothing. One of them that fails ends all.

    Args:
        settings: arguments of :func:`taid_vlm_eval.cli.run`.
        count: how many, beside this one.
    """

    def __init__(self, settings: Mapping[str, Any], count: int) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self._passed_on: dict[IO[bytes], int] = {}
        try:
            for number in range(1, count + 1):
                self._start({**settings, "device": device_of(settings.get("device"), number), "helps": True}, count + 1)
        except BaseException:
            self.end(0.0)
            raise

    def _start(self, settings: Mapping[str, Any], processes: int) -> None:
        told = tempfile.TemporaryFile()  # noqa: SIM115 (closed when nobody refers to it)
        command = [sys.executable, "-m", "taid_vlm_eval.processes"]
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {_THREADS: str(_share_of_cores(processes)), **os.environ, "PYTHONPATH": paths}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=told, stdout=told, env=environment)
        self._running.append((process, told))
        assert process.stdin is not None
        # The pipe stays open: when it ends, the helper knows that this process is gone.
        try:
            pickle.dump(settings, process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL)
            self.check()
            raise UserError("a process beside this one stopped before it began; start the same command again") from None

    def check(self) -> None:
        """Pass on to standard error what helpers have for the user, and raise what one ended with.

        Raises:
            UserError: one failed; the message has what it said last.
        """
        for process, told in self._running:
            self._pass_on(told)
            if process.poll() not in (None, 0):
                told.seek(0)
                lines = told.read().decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"]
                raise UserError(f"a process beside this one stopped: {lines[-1].removeprefix('error: ')}")

    def end(self, wait: float) -> None:
        """Let them end by themselves for some seconds in all, then end them."""
        deadline = time.monotonic() + wait
        for process, _ in self._running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()
        deadline = time.monotonic() + _KILL
        for process, told in self._running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._pass_on(told)

    def _pass_on(self, told: IO[bytes]) -> None:
        # Read in place: the helper writes where the file stands, which it shares with this process.
        start = self._passed_on.get(told, 0)
        new = os.pread(told.fileno(), os.fstat(told.fileno()).st_size - start, start)
        lines = new[: new.rfind(b"\n") + 1]
        self._passed_on[told] = start + len(lines)
        for line in lines.decode(errors="replace").splitlines():
            if line.startswith(_SAID):
                tell(line.removeprefix(_SAID))


def say_beside(text: str) -> None:
    """Tell the user something from a helper, by the process that started it."""
    print(f"{_SAID}{text}", file=sys.stderr, flush=True)


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
