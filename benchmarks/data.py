"""Samples per second of one worker process, for each kind of source: reading the set, rendering, decoding pictures.

    python benchmarks/data.py                  400 samples, photos of 640 x 480
    python benchmarks/data.py --teacher        rendered for a teacher as well
    python benchmarks/data.py --quick          a size of no meaning, to see that it runs

The same made samples are written in the format of every kind, into a temporary folder, so that files come from the page
cache. Samples are prepared as in training: rendered with a template, paired, pictures opened as 8-bit RGB. The last column
is a loader with one worker, which also resizes pictures for the encoder and sends batches. Kinds take turns in each round;
figures are medians.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_sets import WRITERS, Sample, make_samples
from measure import hardware, seconds, summary

from taid_vlm.common.files import write_atomic
from taid_vlm.data import Pairer, PreparedRecords, Record, make_loader, read_records
from taid_vlm.data.batches import Join
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.data_spec import DataSource

FULL: dict[str, Any] = {"samples": 400, "photo": (640, 480)}
QUICK: dict[str, Any] = {"samples": 16, "photo": (64, 48)}
BATCH = 8
SPECIALS = ["<|im_start|>", "<|im_end|>", "<image>"]
COLUMNS = {
    "read": "records read per second",
    "rendered": "rendered per second",
    "prepared": "rendered and decoded per second",
    "loaded": "from a loader's worker, as tensors",
}


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    size = QUICK if arguments.quick else FULL
    report: dict[str, Any] = {"hardware": hardware("cpu"), "size": size, "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAID_VLM_CACHE"] = str(Path(folder) / "cache")
        samples = make_samples(size["samples"], size["photo"])
        report["photo_bytes"] = sum(len(sample.jpeg) for sample in samples) / len(samples)
        pairer = _pairer(samples, arguments.teacher)
        paths = {kind: write(samples, Path(folder) / kind) for kind, write in WRITERS.items()}
        report["by_kind"] = _measured(paths, pairer, arguments.rounds)
    print_report(report)
    write_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    print(f"\nAll samples are in {arguments.out}")


def _measured(paths: dict[str, Path], pairer: Pairer, rounds: int) -> dict[str, Any]:
    """Samples per second of every kind; the first round warms up and is not counted."""
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in COLUMNS} for kind in paths}
    for turn in range(rounds + 1):
        order = list(paths)
        for kind in order[turn % len(order) :] + order[: turn % len(order)]:
            for name, rate in _rates(DataSource(kind=kind, path=str(paths[kind])), pairer).items():
                if turn:
                    found[kind][name].append(rate)
    return {kind: {name: summary(rates) for name, rates in each.items()} for kind, each in found.items()}


def _rates(source: DataSource, pairer: Pairer) -> dict[str, float]:
    records: list[Record] = []
    taken = {"read": seconds(lambda: records.extend(read_records([source], seed=0)), "cpu")}
    prepared = PreparedRecords(records, pairer, skip_bad=False, decode_pictures=True)
    order = [list(range(start, min(start + BATCH, len(records)))) for start in range(0, len(records), BATCH)]
    assert isinstance(pairer.student, Processor)
    loader = make_loader(prepared, order, Join(0, student=pairer.student, keep_pictures=False), workers=1)
    taken["rendered"] = seconds(lambda: [pairer.pair(record) for record in records], "cpu")
    taken["prepared"] = seconds(lambda: [prepared[index] for index in range(len(records))], "cpu")
    rates = {name: len(records) / time for name, time in taken.items()}
    batches = iter(loader)
    next(batches)  # the worker is started by now
    rates["loaded"] = (len(records) - BATCH) / seconds(lambda: [None for _ in batches], "cpu")
    return rates


def _pairer(samples: list[Sample], with_teacher: bool) -> Pairer:
    """ChatML over a byte-level BPE that was trained on the samples' words; 64 tokens a picture, 256 for the teacher."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator((text for sample in samples for text in sample[:2]), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>")
    image = ImageInput(384, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    student, teacher = (
        Processor(tokenizer, template_text("chatml"), ImageTokens("<image>", tokens, image)) for tokens in (64, 256)
    )
    return Pairer(student, teacher if with_teacher else None, max_length=2048)


def print_report(report: dict[str, Any]) -> None:
    """A table in Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in report["hardware"].items() if value is not None)
    width, height = report["size"]["photo"]
    print(
        f"{about}\n{report['size']['samples']} samples, photos of {width} x {height} ({report['photo_bytes']:,.0f} bytes);"
    )
    print(f"per second and process, medians of {report['rounds']} rounds\n")
    print(f"| source | {' | '.join(COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for kind, rates in report["by_kind"].items():
        print(f"| {kind} | " + " | ".join(f"{rates[name]['median']:,.0f}" for name in COLUMNS) + " |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds after one that warms up")
    parser.add_argument("--teacher", action="store_true", help="render for a teacher as well")
    parser.add_argument("--quick", action="store_true", help="a size of no meaning, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
