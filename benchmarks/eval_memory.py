"""The highest resident size of whole evaluations of 1,000 to 100,000 items, each in a fresh process.

    python benchmarks/eval_memory.py
    python benchmarks/eval_memory.py --counts 1000,10000 --kinds pictures

The model answers at once and holds nothing, so what grows is the harness: reading, ordering, asking, the answers file, scoring and
the intervals. With pictures, each item has a picture of its own. The kernel keeps the size (VmHWM). Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taid_vlm.common.files import write_atomic

KINDS = ("text", "pictures")
MIB = 2**20
SIDE = 16  # pixels
TASK = """\
name: made
description: made questions
data: {source: jsonl, path: made.jsonl}
generation: {max_new_tokens: 4}
scorer: exact_match
metric: accuracy
cluster: CLUSTER
"""


@dataclass(frozen=True)
class Row:
    """One evaluation: ``peak`` and ``start`` (before the data is read, everything imported) in bytes."""

    kind: str
    items: int
    start: int
    peak: int
    seconds: float


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(asdict(_evaluate(Path(arguments.child), arguments.kinds[0], arguments.counts[0]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kinds:
            for count in arguments.counts:
                make_task(place := Path(folder) / f"{kind}-{count}", kind, count)
                rows.append(_in_a_fresh_process(place, kind, count))
                print(rows[-1], file=sys.stderr, flush=True)
    print_rows(rows)
    write_atomic(arguments.out, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def make_task(folder: Path, kind: str, count: int) -> None:
    """A task of ``count`` questions in ``folder``, each with a picture of its own where ``kind`` says so."""
    from PIL import Image

    folder.mkdir(parents=True)
    with (folder / "made.jsonl").open("w") as file:
        for number in range(count):
            row = {"id": f"item {number}", "question": f"What is {number} and one? Say it.", "answer": str(number % 97)}
            if kind == "pictures":
                colour = (number % 251, number // 251 % 251, number // 63001)
                Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number}.png")
                row["images"] = [f"{number}.png"]  # type: ignore[assignment]
            file.write(json.dumps(row) + "\n")
    cluster = "image" if kind == "pictures" else "item"
    (folder / "made.yaml").write_text(TASK.replace("CLUSTER", cluster))


def _in_a_fresh_process(folder: Path, kind: str, count: int) -> Row:
    command = [sys.executable, __file__, "--child", str(folder), "--kinds", kind, "--counts", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the evaluation of {count} items ({kind}) failed:\n{done.stderr[-2000:]}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


class _Instant:
    """Right for some items, wrong for most."""

    name = "instant"

    def describe(self) -> dict[str, str | int]:
        return {"name": self.name, "parameters": 0}

    def generate(self, requests: Sequence[object], max_new_tokens: int) -> list[str]:
        return ["7"] * len(requests)


def _evaluate(folder: Path, kind: str, count: int) -> Row:
    from PIL import Image

    from taid_vlm_eval.runner import evaluate

    Image.init()
    start, began = _status("VmRSS"), time.perf_counter()
    (result,) = evaluate(_Instant(), [folder / "made.yaml"], output_dir=folder / "out")
    if (result.n, result.errors) != (count, 0):
        raise SystemExit(f"{result.n} items and {result.errors} errors, expected {count} and 0")
    return Row(kind, count, start, _status("VmHWM"), time.perf_counter() - began)


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def print_rows(rows: Sequence[Row]) -> None:
    """A Markdown table; growth is over the smallest count of the same kind."""
    print("| items | | at the start, MiB | highest, MiB | growth, MiB | bytes per item | seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        least = min((one for one in rows if one.kind == row.kind), key=lambda one: one.items)
        growth, more = row.peak - least.peak, row.items - least.items
        each = f"{growth / more:.0f}" if more else ""
        print(
            f"| {row.items:,} | {row.kind} | {row.start / MIB:.0f} | {row.peak / MIB:.1f} | {growth / MIB:.1f} | {each} | "
            f"{row.seconds:.0f} |"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(one) for one in text.split(",")]  # noqa: E731
    parser.add_argument("--counts", type=numbers, default=[1000, 10000, 100000], help="items, between commas")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "eval-memory-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
