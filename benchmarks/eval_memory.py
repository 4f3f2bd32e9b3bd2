"""The highest resident size of whole evaluations of 1,000 to 100,000 items, and of comparisons of two, each in a fresh process.

    python benchmarks/eval_memory.py
    python benchmarks/eval_memory.py --counts 1000,10000 --kinds pictures,compare

The model answers at once and holds nothing, so what grows is the harness: reading, ordering, asking, the answers file, scoring and
the intervals. With pictures, each item has a picture of its own. A comparison is of two such evaluations of texts that have a
category, from their files to its page. The kernel keeps the size (VmHWM). Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taid_vlm.common.files import write_atomic

KINDS = ("text", "pictures", "compare")
SAID = ("7", "8")  # what the models of a comparison answer
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
    """One evaluation or comparison: ``peak`` and ``start`` (before the data is read, everything imported) in bytes."""

    kind: str
    items: int
    start: int
    peak: int
    seconds: float


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    if arguments.child:
        (kind,), (count,) = arguments.kinds, arguments.counts
        do = _compare if kind == "compare" else partial(_evaluate, said=arguments.says)
        print(json.dumps(asdict(_measured(partial(do, Path(arguments.child), count), kind, count))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kinds:
            for count in arguments.counts:
                make_task(place := Path(folder) / f"{kind}-{count}", kind, count)
                for said in SAID if kind == "compare" else ():
                    _in_a_fresh_process(place, "text", count, said)
                rows.append(_in_a_fresh_process(place, kind, count))
                print(rows[-1], file=sys.stderr, flush=True)
    print_rows(rows)
    write_atomic(arguments.out, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def make_task(folder: Path, kind: str, count: int) -> None:
    """A task of ``count`` questions in ``folder``, each with a picture of its own or with a category where ``kind`` says so."""
    from PIL import Image

    folder.mkdir(parents=True)
    with (folder / "made.jsonl").open("w") as file:
        for number in range(count):
            row: dict[str, Any] = {
                "id": f"item {number}",
                "question": f"What is {number} and one? Say it.",
                "answer": str(number % 97),
            }
            if kind == "pictures":
                colour = (number % 251, number // 251 % 251, number // 63001)
                Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number}.png")
                row["images"] = [f"{number}.png"]
            elif kind == "compare":
                row["facts"] = {"category": f"kind {number % 5}"}
            file.write(json.dumps(row) + "\n")
    cluster = "image" if kind == "pictures" else "item"
    (folder / "made.yaml").write_text(TASK.replace("CLUSTER", cluster))


def _in_a_fresh_process(folder: Path, kind: str, count: int, said: str = SAID[0]) -> Row:
    command = [
        sys.executable,
        __file__,
        "--child",
        str(folder),
        "--kinds",
        kind,
        "--counts",
        str(count),
        "--says",
        said,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the evaluation of {count} items ({kind}) failed:\n{done.stderr[-2000:]}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


class _Instant:
    """Says one thing, which is right for some items and wrong for most."""

    def __init__(self, said: str) -> None:
        self.said, self.name = said, f"instant-{said}"

    def describe(self) -> dict[str, str | int]:
        return {"name": self.name, "parameters": 0}

    def generate(self, requests: Sequence[object], max_new_tokens: int) -> list[str]:
        return [self.said] * len(requests)


def _measured(do: Callable[[], object], kind: str, count: int) -> Row:
    """What ``do`` needs, everything that it imports left out."""
    from PIL import Image

    import taid_vlm_eval.compare_page
    import taid_vlm_eval.runner  # noqa: F401

    Image.init()
    start, began = _status("VmRSS"), time.perf_counter()
    do()
    return Row(kind, count, start, _status("VmHWM"), time.perf_counter() - began)


def _evaluate(folder: Path, count: int, said: str) -> None:
    from taid_vlm_eval.runner import evaluate

    (result,) = evaluate(_Instant(said), [folder / "made.yaml"], output_dir=folder / said)
    if (result.n, result.errors) != (count, 0):
        raise SystemExit(f"{result.n} items and {result.errors} errors, expected {count} and 0")


def _compare(folder: Path, count: int) -> None:
    from taid_vlm_eval.compare import compare
    from taid_vlm_eval.compare_page import page

    pairs = compare([folder / said for said in SAID], tasks_folders=[folder])
    if [len(pair.items) for pair in pairs] != [count]:
        raise SystemExit(f"compared {[len(pair.items) for pair in pairs]} items, expected {count}")
    page(pairs)


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
    parser.add_argument("--says", default=SAID[0], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "eval-memory-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
