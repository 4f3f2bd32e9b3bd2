"""Tokens per second of forward and backward over an epoch whose samples are padded, grouped by length, or packed.

    python benchmarks/packing.py             a Llama of 6 million parameters, 256 samples
    python benchmarks/packing.py --quick     a tiny one, to see that the program runs

The samples have the lengths of a mix for visual question answering: most are a picture and a short question with its answer
(64 picture tokens and a lognormal number of words, median 40, sigma 0.7), and one in twenty is long (a page of text or a
dialogue: 400 to 1024 tokens, each length as likely). A fifth of the words are supervised. Only tokens of samples count,
never padding, and the time includes the making of the batches. The batchings take turns, so that a machine that slows down
slows all of them. The loss is cross-entropy, fused; optimizer and pictures are left out, for they are the same to all.
"""

import argparse
import json
import random
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measure import hardware
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from taid_vlm.common.files import write_atomic
from taid_vlm.data import Join, Pair, StepOrder, make_loader
from taid_vlm.data.packing import Packing
from taid_vlm.data.pairing import Side
from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.models import Student
from taid_vlm.models.student import ModelInputs, count_parameters

BATCHINGS = ("padded", "grouped", "packed")
PICTURE, MEDIAN, SIGMA, LONG_SHARE, LONG = 64, 40, 0.7, 0.05, (400, 1024)
TARGET = 2.0  # packed against padded, on a CPU


class Samples(Dataset[Any]):
    """Words drawn at random, in lengths of the mix."""

    def __init__(self, count: int, vocabulary: int, seed: int) -> None:
        draw = random.Random(seed)
        self.pairs = []
        for index in range(count):
            length = draw.randint(*LONG) if draw.random() < LONG_SHARE else PICTURE + _words(draw)
            answers = max(1, (length - PICTURE) // 5)
            ids = [draw.randrange(vocabulary) for _ in range(length)]
            rows = list(range(length - 1 - answers, length - 1))
            self.pairs.append(Pair(str(index), [ids[row + 1] for row in rows], Side(ids, rows), None, ()))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Pair, list[Any]]:
        return self.pairs[index], []

    def length(self, index: int) -> int:
        """Tokens of a sample."""
        return len(self.pairs[index].student.ids)


def _words(draw: random.Random) -> int:
    return min(LONG[1] - PICTURE, max(2, round(MEDIAN * draw.lognormvariate(0, SIGMA))))


def epoch(
    student: Student, samples: Samples, batching: str, chosen: argparse.Namespace, steps: int
) -> dict[str, float]:
    """So many steps forward and backward; no sample comes twice in an epoch."""
    order = StepOrder(len(samples), chosen.batch_size, chosen.micro, 0, 0, steps, 0, 1, batching, samples.length)
    packing = Packing(LONG[1]) if batching == "packed" else None
    device, tokens, cells, loss = torch.device(chosen.device), 0, 0, 0.0
    start = time.perf_counter()
    for batch in make_loader(samples, order, Join(0, packing)):  # type: ignore[arg-type]
        side = batch.student
        inputs = ModelInputs(side.input_ids, side.attention_mask, side.rows, position_ids=side.position_ids).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            out = distillation_loss(
                student.hidden(inputs), student.head.weight, batch.labels.to(device), spec=LossSpec.of("sft")
            )
        out.loss.backward()
        loss += float(out.loss.detach())
        tokens, cells = tokens + int(side.attention_mask.sum()), cells + side.input_ids.numel()
    seconds = time.perf_counter() - start
    student.zero_grad()
    return {"tokens_per_second": tokens / seconds, "filled": tokens / cells, "loss": loss, "tokens": tokens}


def main() -> None:
    """Measure, print, write."""
    chosen = _arguments()
    hidden, layers, vocabulary, count = (64, 2, 512, 64) if chosen.quick else (256, 6, 4096, 256)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=LONG[1],
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(chosen.attention)
    student = Student(model).to(chosen.device).train()
    samples = Samples(count, vocabulary, seed=0)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in BATCHINGS}
    for turn in range(chosen.rounds + 1):
        for name in BATCHINGS:
            # The first turn is for warming up.
            figures = epoch(student, samples, name, chosen, len(samples) // chosen.batch_size if turn else 1)
            if turn:
                found[name].append(figures)
    report = {
        "hardware": hardware(chosen.device),
        "settings": vars(chosen) | {"out": str(chosen.out)},
        "parameters": count_parameters(student),
        "batchings": {name: _summary(rows, found["padded"]) for name, rows in found.items()},
        "target": TARGET,
    }
    _print(report)
    write_atomic(chosen.out, json.dumps(report, indent=1) + "\n")


def _summary(rows: list[dict[str, float]], padded: list[dict[str, float]]) -> dict[str, float]:
    speeds = [row["tokens_per_second"] for row in rows]
    return {
        "tokens_per_second": median(speeds),
        "min": min(speeds),
        "max": max(speeds),
        "ratio": median(speeds) / median(row["tokens_per_second"] for row in padded),
        "filled": rows[0]["filled"],
        "loss": rows[0]["loss"],
        "tokens": rows[0]["tokens"],
    }


def _print(report: dict[str, Any]) -> None:
    about = report["hardware"]
    print(f"{about['device']}, {about['threads']} threads; {report['parameters']:,} parameters\n")
    print("| batching | tokens/s | min to max | share of cells that are tokens | against padded |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, row in report["batchings"].items():
        spread = f"{row['min']:.0f} to {row['max']:.0f}"
        print(f"| {name} | {row['tokens_per_second']:.0f} | {spread} | {row['filled']:.0%} | {row['ratio']:.2f} |")
    reached = "reached" if report["batchings"]["packed"]["ratio"] >= TARGET else "not reached"
    print(f"\nTarget: packed at least {TARGET:g} times the tokens per second of padded: {reached}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few samples")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--attention", default="sdpa", help="attn_implementation of transformers")
    parser.add_argument("--batch-size", type=int, default=32, help="samples of a step")
    parser.add_argument("--micro", type=int, default=16, help="samples of a forward")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("packing.json"))
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; leave --device out")
    return chosen


if __name__ == "__main__":
    main()
