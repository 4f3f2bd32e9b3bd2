"""Ten pictures with question, truth and the models' answers, as one PNG."""

from dataclasses import dataclass
from pathlib import Path


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
    figure, axes = plt.subplots(rows, columns, figsize=(2.9 * columns, 3.9 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, example in zip(axes.flat, examples, strict=False):
        with Image.open(example.image) as image:
            axis.imshow(image.convert("RGB"), interpolation="nearest")
        axis.set_title(_wrapped(_plain(example.question), 28), fontsize=10)
        lines = [(f"truth: {_plain(example.truth)}", "black")]
        for name, answer in example.answers.items():
            right = answer.strip().lower() == example.truth.strip().lower()
            lines.append((f"{'✓' if right else '✗'} {name}: {_plain(answer)[:24]}", "#1a7f37" if right else "#b3261e"))
        for index, (text, colour) in enumerate(lines):
            axis.text(
                0.5,
                -0.06 - 0.1 * index,
                text,
                transform=axis.transAxes,
                ha="center",
                va="top",
                fontsize=9,
                color=colour,
            )
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _plain(text: str) -> str:
    # A dollar sign would start mathematics.
    return text.replace("$", r"\$")


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
