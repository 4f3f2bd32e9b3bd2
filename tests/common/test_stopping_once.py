"""Signals to a program of ours: the first unwinds, the second ends it at once, whatever it is doing then."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taid_vlm.common.stopping import INTERRUPTED, TERMINATED, Terminated, status_of, stopping_once

PROGRAM = """
import os, signal, sys, time
from taid_vlm.common.stopping import status_of, stopping_once
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background of a shell ignores it
{before}
with stopping_once():
    try:
        print("working", flush=True)
        {work}
    except KeyboardInterrupt as stopped:
        print("cleaning up", flush=True)
        {cleaning}
        sys.exit(status_of(stopped))
"""
BOTH = [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]


def start(work: str = "time.sleep(60)", cleaning: str = "pass", before: str = "") -> "subprocess.Popen[str]":
    program = PROGRAM.format(work=work, cleaning=cleaning, before=before)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    expect(process, "working")
    return process


def expect(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_the_first_unwinds(number: int, status: int) -> None:
    process = start()
    process.send_signal(number)
    expect(process, "cleaning up")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == status


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("number", "status"), BOTH)
def test_the_second_ends_it_at_once(number: int, status: int, second: int) -> None:
    process = start(cleaning="time.sleep(60)")
    process.send_signal(number)
    expect(process, "cleaning up")
    process.send_signal(second)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -second


def test_what_the_caller_ignores_stays_ignored() -> None:
    process = start(
        work="time.sleep(0.5); print('done', flush=True)",
        before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    )
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("done\n", "")
    assert process.returncode == 0


def test_a_forked_process_ends_without_an_exception() -> None:
    fork = "child = os.fork() or time.sleep(60); time.sleep(0.2); os.kill(child, 15); print(os.waitpid(child, 0)[1], flush=True)"
    process = start(work=fork)
    assert process.communicate(timeout=20) == (f"{int(signal.SIGTERM)}\n", "")


def test_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stopping_once():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_statuses() -> None:
    assert status_of(KeyboardInterrupt()) == 130
    assert status_of(Terminated()) == 143
