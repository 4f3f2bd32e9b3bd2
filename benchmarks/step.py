"""Time and memory of a training step: its parts, the teacher cache, the authors' own step, and two processes.

    python benchmarks/step.py                          all parts, on the quickstart's pair
    python benchmarks/step.py --parts split,cache      some of them; the others keep their place in the JSON file
    python benchmarks/step.py --quick                  a tiny pair, to see that everything runs

split: where the time of a step goes, by the loop's own stopwatch, and how much of it the two passes take alone that no
distillation can leave out (teacher forward; student forward, cross-entropy at the answer rows, backward). cache: runs of 1,
2 and 4 epochs with the teacher in every step, and with an empty cache that is filled first. official: the same pair, batch
and data in a step re-created from the description of the TAID authors' code (``official_step.py``), and in steps of
transformers and TRL (where it is installed). processes: two on two cores against one on one core, on the CPU always.

Everything is the recipe quickstart/taid, but for the number of steps and samples and the teacher's cache, which is off where
nothing else is said. Pictures' features are kept in memory, as the recipe says, for all contestants. Contestants take turns in
fresh processes, so that their memory is their own; figures are medians. A GPU is used where there is one. Linux only.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from measure import hardware
from step_jobs import Bench, quick_recipe, scratch_folder
from step_parts import PARTS
from step_report import print_report, verdicts

from taid_vlm.common.files import write_atomic
from taid_vlm.training.precision import choose_precision

FULL: dict[str, Any] = {
    "quick": False,
    "batch": 32,
    "warmup": 2,
    "steps": 8,
    "epoch": 256,
    "official_batch": 4,
    "official_steps": 2,
    "small_steps": 20,
    "length": 2048,
}
QUICK: dict[str, Any] = {
    "quick": True,
    "batch": 4,
    "warmup": 1,
    "steps": 2,
    "epoch": 8,
    "official_batch": 2,
    "official_steps": 1,
    "small_steps": 2,
    "length": 256,
}


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = QUICK if arguments.quick else FULL | {"official_batch": arguments.official_batch}
    # Chosen once: a timing decides it, and all must have the same.
    precision = "fp32" if arguments.quick else choose_precision(arguments.precision, torch.device(device))
    with scratch_folder() as name:
        scratch = Path(name)
        recipe = str(quick_recipe(scratch)) if arguments.quick else "quickstart/taid"
        bench = Bench(recipe, scratch, sizes, precision)
        parts = _earlier(arguments.out)
        for part in arguments.parts:
            print(f"{part} ...", file=sys.stderr, flush=True)
            # Through JSON, so that what is printed is what an earlier run would have left there.
            parts[part] = json.loads(json.dumps(PARTS[part](bench, arguments.rounds)))
    report = {
        "hardware": hardware(device),
        "gpu": "measured on it" if device == "cuda" else "No GPU is here: all of this is a CPU's.",
        "recipe": "a tiny pair of no meaning" if arguments.quick else recipe,
        "precision": precision,
        "rounds": arguments.rounds,
        "sizes": sizes,
        "parts": parts,
        "targets": verdicts(parts),
    }
    print_report(report)
    write_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    print(f"\nAll figures are in {arguments.out}")


def _earlier(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text())["parts"] if out.is_file() else {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every contestant")
    parser.add_argument(
        "--precision", choices=["auto", "fp32", "bf16"], default="auto", help="autocast of all contestants"
    )
    parser.add_argument(
        "--official-batch", type=int, default=FULL["official_batch"], help="samples of a step beside the official one"
    )
    parser.add_argument("--quick", action="store_true", help="a size of no meaning, to see that it runs")
    parser.add_argument(
        "--out", type=Path, default=None, help="JSON file; benchmarks/results/step-DEVICE.json, or step-quick.json"
    )
    arguments = parser.parse_args()
    arguments.parts = [name for name in arguments.parts.split(",") if name]
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}: choose from {', '.join(PARTS)}")
    device = "quick" if arguments.quick else "cuda" if torch.cuda.is_available() else "cpu"
    arguments.out = arguments.out or Path(__file__).parent / "results" / f"step-{device}.json"
    return arguments


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
