"""Runs what is missing, one job after the other, in this process and in others beside it.

Processes share a folder: each claims a job by a lock on a file, which the system releases when the process ends, however it ends.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.file_lock import alone_or_not
from taid_vlm.study.plan import SETTINGS, TUNING_SEED, Job, Setting, jobs_in_order, setting_of
from taid_vlm.study.prepare import prepare
from taid_vlm.study.records import Records
from taid_vlm.study.tuning import chosen_rates

WAIT = 5.0  # seconds between looks at what others have finished
END = 2.0  # seconds that a process beside this one has to end by a Ctrl-C of its own: a second signal would cut it off


@dataclass(frozen=True)
class Asked:
    """Which part of the study is to be run.

    Attributes:
        out: folder of runs and records. results: folder with records of before.
        only: pairs or names of settings; empty for all.
        methods: names; empty for all of a setting.
        seeds: at most so many of each setting; None for all.
    """

    out: Path
    results: Path
    only: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int | None = None

    def settings(self) -> list[Setting]:
        """The settings asked for, with those in front whose learning rates they use."""
        if not self.only:
            return list(SETTINGS)
        pairs = {setting.pair for setting in SETTINGS}
        named = [setting_of(name) for name in self.only if name not in pairs]
        wanted = {s.name for s in SETTINGS if s.pair in self.only or s in named}
        return [setting for setting in SETTINGS if setting.name in wanted]

    def jobs(self, records: Records) -> list[Job]:
        """In order; ``lr`` is None where tuning has not chosen."""
        return [
            job
            for job in jobs_in_order(self.settings(), chosen_rates(SETTINGS, records))
            if (not self.methods or job.method in self.methods)
            and (self.seeds is None or job.seed < self.seeds or job.seed == TUNING_SEED)
        ]


def run_study(asked: Asked, jobs: int, say: Callable[[str], None]) -> None:
    """Run all that is asked for and not finished yet.

    Args:
        jobs: processes; more may be started beside them by the same command.

    Raises:
        UserError: what is missing to begin, or a run that cannot work.
        StoppedError: a signal asked to stop; the same command goes on.
    """
    with ExitStack() as beside:
        for _ in range(jobs - 1):
            beside.enter_context(_worker(asked))
        work(asked, say)


def work(asked: Asked, say: Callable[[str], None]) -> None:
    """Take jobs until none is left."""
    from taid_vlm.study.bench import Bench  # imports torch

    bench = Bench(asked.out / "running", say)
    while True:
        records = Records(asked.out, asked.results)
        missing = [job for job in asked.jobs(records) if job.lr is None or records.of(job) is None]
        if not missing:
            return
        ready = [job for job in missing if job.lr is not None]
        if _run_first_free(ready, bench, asked, say):
            continue
        waiting = {job.setting.rates_from for job in missing if job.lr is None}
        if not ready and not waiting <= {setting.name for setting in asked.settings()}:
            raise UserError(
                f"learning rates are tuned in {', '.join(sorted(waiting))}, which is not finished: run it first, or ask for it too"
            )
        if not ready:
            raise UserError(
                f"no learning rate of {', '.join(sorted({job.method for job in missing}))} could be trained with"
            )
        time.sleep(WAIT)  # others are at the rest


def _run_first_free(ready: Sequence[Job], bench, asked: Asked, say: Callable[[str], None]) -> bool:  # type: ignore[no-untyped-def]
    for job in ready:
        with alone_or_not(asked.out / "claims" / f"{job.key.replace('/', '-')}.lock") as mine:
            # Another process may have finished it since the records were read.
            if not mine or Records(asked.out, asked.results).of(job) is not None:
                continue
            say(f"{job.key} with learning rate {job.lr:g}; {len(ready)} runs can be made")
            prepare(job.recipe())
            record = bench.run(job)
            finished = Records(asked.out, asked.results)
            finished.add(record)
            if finished.teacher_of(record) is None:
                finished.add(bench.teacher(job))
            say(f"{job.key}: {record.failed or record.figures['test']}")
            return True
    return False


@contextmanager
def _worker(asked: Asked) -> Iterator[None]:
    """One more process that does the same; it is asked to stop when this one ends."""
    command = [
        sys.executable,
        "-m",
        "taid_vlm",
        "study",
        "run",
        "--out",
        str(asked.out),
        "--results",
        str(asked.results),
    ]
    for name, values in (("--only", asked.only), ("--methods", asked.methods)):
        command += [name, ",".join(values)] if values else []
    command += [] if asked.seeds is None else ["--seeds", str(asked.seeds)]
    process = subprocess.Popen(command, env=os.environ)
    try:
        yield
        process.wait()
    finally:
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
