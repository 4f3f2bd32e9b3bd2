"""Questions per second of an evaluation on a CPU, where many questions are asked about each picture.

    TAID_VLM_CACHE=... python benchmarks/eval.py                       the quickstart's teacher, exported and not
    python benchmarks/eval.py --peer /path/to/python                   beside lmms-eval, which that interpreter has
    python benchmarks/eval.py --quick                                  a size of no meaning, to see that it runs

One model, one set of questions, four ways: one question at a time or in batches, and pictures read anew with every question or
encoded and read once. A whole evaluation is timed, from opened model to scored result, files in the page cache. The ways take turns
in each round; figures are medians. Then greedy answers are compared: batches with one question at a time, in fp32 and in bf16.

lmms-eval runs its own class for checkpoints of transformers (`huggingface`) on the exported checkpoint, in a process of its own that takes its
turns in the same rounds, and times its generation alone, pictures opened in it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from eval_set import NAME, make_set
from measure import hardware, seconds, summary

from taid_vlm.common.files import write_atomic
from taid_vlm_eval.models import open_model
from taid_vlm_eval.runner import evaluate

TARGET = 3.0  # questions per second over one at a time without reuse
TEACHER = Path(__file__).resolve().parents[1] / "recipes" / "quickstart" / "teacher"
WAYS = {
    "one at a time": (1, False),
    "one at a time, pictures reused": (1, True),
    "batches": (0, False),
    "batches, pictures reused": (0, True),
}
FIRST = next(iter(WAYS))


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # of the peer's process
    report: dict[str, Any] = {
        "hardware": hardware("cpu"),
        **{key: getattr(arguments, key) for key in ("pictures", "questions", "batch", "rounds")},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        task, lmms = make_set(folder / "set", arguments.pictures, arguments.questions)
        exported = _exported(arguments.model, folder)
        models = {"exported, as transformers loads it": exported}
        if exported != arguments.model and arguments.student:
            models["student, not exported"] = arguments.model
        with _peer(arguments, exported, lmms) as peer:
            report["peer"] = {"not_measured": "no interpreter with lmms-eval was given (--peer)"}
            report["models"] = {}
            for name, path in models.items():
                beside = peer if path == exported else None
                report["models"][name] = _measured(path, task, folder / name, arguments, beside)
                if beside is not None:
                    report["peer"] = beside.report()
        report["flips"] = {
            dtype: _flips(exported, task, folder / dtype, arguments, dtype) for dtype in arguments.dtypes
        }
    print_report(report)
    write_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    print(f"\nAll samples are in {arguments.out}")


def _exported(model: Path, folder: Path) -> Path:
    """The model as a checkpoint of transformers."""
    if not (model / "student.json").is_file():
        return model
    command = [sys.executable, "-m", "taid_vlm.cli", "export", str(model), str(folder / "exported")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "exported"


def _measured(
    path: Path, task: Path, folder: Path, arguments: argparse.Namespace, peer: "Peer | None"
) -> dict[str, Any]:
    """Questions per second of each way, and its answers; the first round warms up and is not counted."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    answers: dict[str, dict[str, str]] = {}
    opened = {reuse: open_model(path, device="cpu", reuse_images=reuse) for reuse in (False, True)}
    for turn in range(arguments.rounds + 1):
        for way in list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]:
            batch, reuse = WAYS[way]
            limit = arguments.batch if turn == 0 else None  # enough to warm up
            _forget(opened[reuse])
            out = folder / f"{way} {turn}"
            took = seconds(lambda: _evaluate(opened[reuse], task, out, batch or arguments.batch, limit), "cpu")  # noqa: B023
            if turn:
                answers[way] = _answers(out)
                rates[way].append(len(answers[way]) / took)
        if peer is not None:
            peer.take_turn(counted=turn > 0)
    if peer is not None:
        peer.compare(answers[FIRST])
    return {
        "rates": {way: summary(found) for way, found in rates.items()},
        "changed": {way: _different(found, answers[FIRST]) for way, found in answers.items()},
        "answers": answers[FIRST],
    }


def _flips(path: Path, task: Path, folder: Path, arguments: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """How many greedy answers differ from those to one question at a time, pictures read anew, in this precision."""
    found = {}
    for way, (batch, reuse) in WAYS.items():
        model = open_model(path, device="cpu", dtype=dtype, reuse_images=reuse)
        _evaluate(model, task, folder / way, batch or arguments.batch, None)
        found[way] = _answers(folder / way)
    return {"of": len(found[FIRST]), "changed": {way: _different(one, found[FIRST]) for way, one in found.items()}}


@contextmanager
def _peer(arguments: argparse.Namespace, checkpoint: Path, tasks: Path) -> Iterator["Peer | None"]:
    """lmms-eval with the checkpoint loaded, for as long as the block runs; None where no interpreter was given."""
    if arguments.peer is None:
        yield None
        return
    script = Path(__file__).resolve().parent / "eval_lmms.py"
    command = [arguments.peer, str(script), str(checkpoint), str(tasks), NAME, "float32"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tasks / "cache")}
    with (
        open(tasks / "lmms-eval.log", "w+") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as run,
    ):
        yield Peer(run, log, {"one at a time": 1, "batches": arguments.batch})
        assert run.stdin is not None
        run.stdin.close()


@dataclass
class Peer:
    """lmms-eval in a process of its own, which evaluates when it is asked to.

    Attributes:
        batches: size of the batch by name of the way.
        failed: why there are no figures.
    """

    process: "subprocess.Popen[str]"
    log: TextIO
    batches: dict[str, int]
    rates: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failed: str = ""

    def take_turn(self, *, counted: bool) -> None:
        """One evaluation in each way."""
        for way, batch in self.batches.items():
            said = self._ask(batch) if not self.failed else None
            if said is not None and counted:
                self.rates.setdefault(way, []).append(len(said["answers"]) / said["seconds"])
                self.answers[way], self.versions = said["answers"], said["versions"]

    def compare(self, truth: dict[str, str]) -> None:
        """Count the answers that are not ``truth``'s."""
        self.changed = {way: _different(found, truth) for way, found in self.answers.items()}

    def report(self) -> dict[str, Any]:
        """Rates and changed answers, or the reason why there are none."""
        if self.failed:
            return {"not_measured": self.failed}
        rates = {way: summary(found) for way, found in self.rates.items()}
        return {"rates": rates, "changed": self.changed, "versions": self.versions}

    def _ask(self, batch: int) -> dict[str, Any] | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{batch}\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith('{"seconds"'):
                    said: dict[str, Any] = json.loads(line)
                    return said
        except BrokenPipeError:
            pass  # it has ended
        self.log.seek(0)
        lines = self.log.read().splitlines()
        errors = [line for line in lines if "Error" in line] or lines
        self.failed = f"lmms-eval failed: {errors[-1] if errors else self.process.wait()}"
        return None


def _evaluate(model: Any, task: Path, out: Path, batch: int, limit: int | None) -> None:
    evaluate(model, [task], output_dir=out, batch_size=batch, limit=limit)


def _forget(model: Any) -> None:
    """Each evaluation begins with no picture known."""
    model._cache = type(model._cache)()
    if hasattr(model, "_assembler"):
        model._assembler._cache = model._cache


def _answers(folder: Path) -> dict[str, str]:
    lines = (folder / f"{NAME}.answers.jsonl").read_text().splitlines()
    return {row["id"]: row["answer"] for row in map(json.loads, lines) if "answer" in row}


def _different(answers: dict[str, str], truth: dict[str, str]) -> int:
    return sum(answers[key] != truth[key] for key in truth)


def print_report(report: dict[str, Any]) -> None:
    """Tables in Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in report["hardware"].items() if value is not None)
    count = report["pictures"] * report["questions"]
    print(
        f"{about}\n{count} questions, {report['questions']} about each of {report['pictures']} pictures; fp32; batches of {report['batch']}; "
    )
    print(f"medians of {report['rounds']} rounds\n")
    print(
        "| | way | questions per second | min to max | over one at a time | answers changed |\n|---|---|---|---|---|---|"
    )
    for name, model in report["models"].items():
        _print_rows(name, model, model["rates"][FIRST]["median"])
    peer, first = report["peer"], next(iter(report["models"].values()))["rates"][FIRST]["median"]
    if "not_measured" in peer:
        print(f"| lmms-eval | not measured: {peer['not_measured']} | | | | |")
    else:
        _print_rows(f"lmms-eval {peer['versions']['lmms-eval']}", peer, first)
    if report["flips"]:
        print(
            "\n| greedy answers that differ from one at a time | "
            + " | ".join(list(WAYS)[1:])
            + " |\n|---|---|---|---|"
        )
        for dtype, flips in report["flips"].items():
            cells = [f"{flips['changed'][way]} of {flips['of']}" for way in list(WAYS)[1:]]
            print(f"| {dtype} | " + " | ".join(cells) + " |")
    for name, model in report["models"].items():
        ratio = model["rates"]["batches, pictures reused"]["median"] / model["rates"][FIRST]["median"]
        verdict = "met" if ratio >= TARGET else "missed"
        print(
            f"\n{name}: batches with pictures reused are {ratio:.1f} times as fast as one at a time; target {TARGET:g}: {verdict}"
        )


def _print_rows(name: str, found: dict[str, Any], first: float) -> None:
    for way, rate in found["rates"].items():
        spread = f"{rate['min']:.2f} to {rate['max']:.2f}"
        cells = [
            name,
            way,
            f"{rate['median']:.2f}",
            spread,
            f"{rate['median'] / first:.2f}",
            str(found["changed"][way]),
        ]
        print("| " + " | ".join(cells) + " |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=TEACHER, help="folder of a student or of a transformers checkpoint"
    )
    parser.add_argument(
        "--no-student", dest="student", action="store_false", help="measure the exported checkpoint alone"
    )
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--questions", type=int, default=16, help="about each picture; easy-VQA has up to 20")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"], help="to compare answers in")
    parser.add_argument("--peer", type=Path, default=None, help="interpreter of an environment with lmms-eval 0.7.3")
    parser.add_argument("--out", type=Path, default=Path("eval-benchmark.json"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.pictures, arguments.questions, arguments.batch, arguments.rounds = 2, 4, 4, 1
    return arguments


if __name__ == "__main__":
    main()
