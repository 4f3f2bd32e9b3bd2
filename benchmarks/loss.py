"""Time and memory of the fused distillation loss beside its plain form, the peers, and the products it cannot avoid.

    python benchmarks/loss.py                  CPU, fp32, 2,048 rows, width 576, vocabularies 49,152 and 151,936
    python benchmarks/loss.py --device cuda    bf16, 8,192 rows, widths 2,048 and 4,096, vocabulary 128,256
    python benchmarks/loss.py --losses all     also every loss by name

All contestants run in one process on the same tensors, one after the other in each round, so that a slow moment of the
machine hits all of them; figures are medians over the rounds. Nothing is tuned by the result.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contestants import OURS, PEERS, Case, Loss, make_case, make_fused, products
from measure import extra_bytes, hardware, seconds, summary
from report import print_report, verdicts

from taid_vlm.common.files import write_atomic
from taid_vlm.losses import LOSS_NAMES, LossSpec
from taid_vlm.losses.chunks import plan, usual_bytes
from taid_vlm.losses.inputs import Head, check_inputs

CPU = {"rows": 2048, "vocabularies": [49152, 151936], "width": 576, "teacher_width": 576, "dtype": "float32"}
CUDA = {"rows": 8192, "vocabularies": [128256], "width": 2048, "teacher_width": 4096, "dtype": "bfloat16"}
QUICK = {"rows": 64, "vocabularies": [512], "width": 32, "teacher_width": 48, "dtype": "float32"}
FLOOR = "four products"


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    size = QUICK if arguments.quick else CUDA if arguments.device == "cuda" else CPU
    vocabularies = arguments.vocabularies or size["vocabularies"]
    report: dict[str, Any] = {"hardware": hardware(arguments.device), "size": size, "rounds": arguments.rounds}
    report["by_vocabulary"] = {v: _compare(size, v, arguments) for v in vocabularies}
    report["by_rows"] = {} if arguments.no_rows else _by_rows(size, vocabularies[0], arguments)
    names = LOSS_NAMES if arguments.losses == "all" else [name for name in arguments.losses.split(",") if name]
    if names:
        report["by_loss"] = _by_loss(size, vocabularies[0], arguments, list(names))
    report["targets"] = verdicts(report, arguments.device)
    print_report(report)
    write_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    print(f"\nAll samples are in {arguments.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after one that warms up")
    parser.add_argument("--vocabularies", type=int, nargs="*", help="instead of those of the device")
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="only these beside our own"
    )
    parser.add_argument("--no-rows", action="store_true", help="leave out the table by number of rows")
    parser.add_argument("--losses", default="", help="names of losses for a table of their own, or all")
    parser.add_argument("--quick", action="store_true", help="a size of no meaning, to see that it runs")
    parser.add_argument("--out", type=Path, default=None, help="JSON file; benchmarks/results/loss-DEVICE.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is available: leave out --device cuda")
    default = Path(__file__).parent / "results" / f"loss-{arguments.device}.json"
    arguments.out = arguments.out or default
    return arguments


def _compare(size: dict[str, Any], vocabulary: int, arguments: argparse.Namespace) -> dict[str, Any]:
    case = _case(size, size["rows"], vocabulary, arguments.device)
    losses: dict[str, Loss] = {}
    absent: dict[str, str] = {}
    for name, make in (OURS | {name: PEERS[name] for name in arguments.peers}).items():
        try:
            losses[name] = make()
            losses[name](case).backward()  # what is compiled is compiled now
        except Exception as error:  # a peer may fail in ways of its own, and the others must still be measured
            if name in OURS:
                raise
            losses.pop(name, None)
            absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        case.forget()
    agreement = _agreement(losses, case)
    chunk_rows = _chunk_rows(case)
    timings = _times(losses, case, arguments, {FLOOR: products(case, chunk_rows)})
    memory = {name: _extra(loss, case, arguments.device) for name, loss in losses.items()}
    return {
        "chunk_rows": chunk_rows,
        "gradient_error": agreement,
        "not_run": absent,
        "seconds": {name: summary(samples) for name, samples in timings.items()},
        "extra_bytes": memory,
    }


def _by_rows(size: dict[str, Any], vocabulary: int, arguments: argparse.Namespace) -> dict[int, Any]:
    """The same at a quarter, half, once and twice the rows."""
    found = {}
    for rows in (size["rows"] // 4, size["rows"] // 2, size["rows"], size["rows"] * 2):
        case = _case(size, rows, vocabulary, arguments.device)
        losses = {"taid, fused": make_fused("taid")}
        timings = _times(losses, case, arguments)["taid, fused"]
        found[rows] = {
            "seconds": summary(timings),
            "extra_bytes": _extra(losses["taid, fused"], case, arguments.device),
        }
    return found


def _by_loss(size: dict[str, Any], vocabulary: int, arguments: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    case = _case(size, size["rows"], vocabulary, arguments.device)
    losses = {name: make_fused(name) for name in names}
    timings = _times(losses, case, arguments, {FLOOR: products(case, _chunk_rows(case))})
    return {name: summary(samples) for name, samples in timings.items()}


def _case(size: dict[str, Any], rows: int, vocabulary: int, device: str) -> Case:
    return make_case(rows, vocabulary, size["width"], size["teacher_width"], getattr(torch, size["dtype"]), device)


def _chunk_rows(case: Case) -> int:
    """Rows per chunk that the fused form takes by itself."""
    student, teacher = Head(case.hidden, case.head), Head(case.teacher_hidden, case.teacher_head)
    inputs = check_inputs(student, teacher, case.labels, None, LossSpec.of("taid"), 0.5)
    return plan(inputs, case.hidden.dtype, usual_bytes(inputs))[0]


def _agreement(losses: dict[str, Loss], case: Case) -> dict[str, float]:
    """Relative distance of each gradient of the head from that of the plain form of the same loss."""

    def gradient(loss: Loss) -> torch.Tensor:
        case.forget()
        loss(case).backward()
        assert case.head.grad is not None
        return case.head.grad.double()

    found: dict[str, float] = {}
    for reference in ("kl, plain", "taid, plain"):
        expected = gradient(losses[reference])
        for name in losses:
            if name.startswith("taid") == reference.startswith("taid"):
                found[name] = float((gradient(losses[name]) - expected).norm() / expected.norm())
    case.forget()
    return found


def _times(
    losses: dict[str, Loss],
    case: Case,
    arguments: argparse.Namespace,
    more: dict[str, Callable[[], None]] | None = None,
) -> dict[str, list[float]]:
    runs = {name: (lambda loss=loss: loss(case).backward()) for name, loss in losses.items()} | (more or {})
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.rounds + 1):
        order = list(runs)
        # Each round begins with another one: who follows a contestant that held much memory pays for its pages.
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            case.forget()
            taken = seconds(runs[name], arguments.device)
            if turn:
                samples[name].append(taken)
    case.forget()
    return samples


def _extra(loss: Loss, case: Case, device: str) -> int:
    """Bytes at the highest point beyond the tensors that go in and the gradients that come out."""
    case.forget()
    grown = extra_bytes(lambda: loss(case).backward(), device)
    case.forget()
    return max(0, grown - case.gradient_bytes)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
