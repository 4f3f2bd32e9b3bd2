"""The gate that every export passes: a fresh process with stock transformers must prepare, say and answer the same."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from taid_vlm.common.errors import UserError

# Of the largest logit: the same products in the same order give the same bits, but a converted tower sums otherwise.
TOLERANCE = 1e-5
# Stock processors resize by another library; an 8-bit picture may come out by a few of 255 levels different.
PIXEL_TOLERANCE = 0.1


@dataclass(frozen=True)
class Probe:
    """One conversation, and what the student itself makes of it.

    Attributes:
        messages: with ``{"type": "image", "path": ...}`` parts. ids: of the prompt, pictures expanded.
        inputs: the pixels as the class takes them. logits: ``[1, L, V]``. generated: greedy ids after the prompt.
    """

    messages: list[dict[str, Any]]
    ids: list[int]
    inputs: dict[str, Tensor]
    logits: Tensor
    generated: list[int]


@dataclass(frozen=True)
class Proof:
    """What the fresh process showed.

    Attributes:
        difference: largest of all logits. pixel_difference: of the stock processor's pixels from ours.
    """

    architecture: str
    difference: float
    pixel_difference: float


class FreshProcess:
    """A Python process that has imported nothing of ours, kept open for one or more folders.

    Args:
        prelude: code that it runs first, for libraries that must learn of a model before they can build it.
    """

    def __init__(self, prelude: str = "") -> None:
        self.scratch = tempfile.TemporaryDirectory()
        source = Path(__file__).with_name("fresh_process.py").read_text()
        # Not as a file of this folder: its neighbours would hide other packages' modules of the same name.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{prelude}\n{source}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(Path(self.scratch.name) / "stderr", "wb"),  # noqa: SIM115  # closed with the process
            text=True,
            cwd=self.scratch.name,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to one job.

        Raises:
            UserError: the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("ANSWER "):
                    answer: dict[str, Any] = json.loads(line[7:])
                    return answer
        except BrokenPipeError:
            pass
        said = (Path(self.scratch.name) / "stderr").read_text(errors="replace").strip().splitlines()
        raise UserError(f"the process that reloads the checkpoint ended: {said[-1] if said else 'it said nothing'}")

    def __enter__(self) -> "FreshProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        # It has answered what it was asked, or is loading a checkpoint that nobody waits for any more; taking torch down takes seconds.
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self.scratch.cleanup()


def check_reload(folder: Path, probes: list[Probe], process: FreshProcess, *, sees: bool, trust: bool = False) -> Proof:
    """Load ``folder`` in the fresh process and compare everything with the student's own.

    Raises:
        UserError: it does not load, loads with other parameters, prepares other inputs, or gives other logits or words.
    """
    scratch = Path(tempfile.mkdtemp(dir=process.scratch.name))
    jobs = [_write(probe, scratch, str(index)) for index, probe in enumerate(probes)]
    # It runs in a folder of its own, where a relative path leads nowhere.
    answer = process.ask({"folder": str(folder.resolve()), "sees": sees, "trust": trust, "probes": jobs})
    if "error" in answer:
        raise UserError(f"the exported checkpoint does not load with stock transformers: {answer['error']}")
    if answer["keys"]:
        raise UserError(f"the exported checkpoint loads with other parameters: {answer['keys']}")
    difference = pixels = 0.0
    for probe, job, found in zip(probes, jobs, answer["probes"], strict=True):
        _check_inputs(probe, found)
        pixels = max(pixels, found["pixel_difference"])
        logits = load_file(job["out"])["logits"]
        difference = max(difference, float((logits - probe.logits).abs().max()))
        allowed = TOLERANCE * max(1.0, float(probe.logits.abs().max()))
        if not difference <= allowed:
            raise UserError(
                f"the exported checkpoint gives other logits: difference {difference:.2e}, allowed {allowed:.0e}"
            )
        if found["generated"] != probe.generated:
            raise UserError(f"the exported checkpoint answers {found['generated']}, the student {probe.generated}")
    return Proof(answer["class"], difference, pixels)


def _write(probe: Probe, scratch: Path, name: str) -> dict[str, Any]:
    given = ""
    if probe.inputs:
        given = str(scratch / f"{name}.safetensors")
        save_file({key: tensor.contiguous() for key, tensor in probe.inputs.items()}, given)
    return {
        "messages": probe.messages,
        "ids": probe.ids,
        "given": given,
        "out": str(scratch / f"{name}.out.safetensors"),
        "new_tokens": len(probe.generated),
    }


def _check_inputs(probe: Probe, found: dict[str, Any]) -> None:
    if found["ids"] != probe.ids:
        place = next(
            (i for i, (ours, theirs) in enumerate(zip(probe.ids, found["ids"], strict=False)) if ours != theirs),
            min(len(probe.ids), len(found["ids"])),
        )
        raise UserError(
            f"the exported processor gives other token ids: {len(found['ids'])} rather than {len(probe.ids)}, the first "
            f"difference at {place} ({found['ids'][place : place + 3]} rather than {probe.ids[place : place + 3]})"
        )
    if found["shapes"]:
        raise UserError(f"the exported processor gives inputs of other shapes (stock, ours): {found['shapes']}")
    if found["pixel_difference"] > PIXEL_TOLERANCE:
        raise UserError(
            f"the exported processor prepares pictures otherwise: pixels differ by {found['pixel_difference']:.3f}, "
            f"allowed {PIXEL_TOLERANCE}"
        )
