"""Ten pictures with question, truth and the models' answers, as one PNG."""

from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.files import write_drawn


@dataclass(frozen=True)
class Example:
    """One question with everybody's answer."""

    image: Path
    question: str
    truth: str
    answers: dict[str, str]


def draw_examples(examples: list[Example], target: Path) -> None:
    """Five columns; a wrong answer is red and marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    columns = 5
    rows = max(1, -(-len(examples) // columns))
    # Under each picture an empty pair of axes holds its text, so that no text can run into the next row.
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        figsize=(2.7 * columns, 4.1 * rows),
        height_ratios=[2.7, 1.4] * rows,
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for index, example in enumerate(examples):
        row, column = divmod(index, columns)
        with Image.open(example.image) as image:
            axes[2 * row, column].imshow(image.convert("RGB"), interpolation="nearest")
        height = 1.0
        for text, colour, weight in _lines(example):
            below = axes[2 * row + 1, column]
            below.text(0.5, height, text, ha="center", va="top", fontsize=9, color=colour, weight=weight)
            height -= 0.18 * (1 + text.count("\n"))
    write_drawn(target, lambda file: figure.savefig(file, dpi=110))
    plt.close(figure)


def _lines(example: Example) -> list[tuple[str, str, str]]:
    lines = [(_wrapped(_plain(example.question), 30), "black", "bold")]
    lines.append((f"truth: {_plain(example.truth)}", "black", "normal"))
    for name, answer in example.answers.items():
        right = answer.strip().lower() == example.truth.strip().lower()
        text = f"{'✓' if right else '✗'} {name}: {_plain(answer)[:24]}"
        lines.append((text, "#1a7f37" if right else "#b3261e", "normal"))
    return lines


def _plain(text: str) -> str:
    # A dollar sign would start mathematics.
    return text.replace("$", r"\$")


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
