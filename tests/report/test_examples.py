"""Ten pictures with answers: everything is inside the page and nothing is written over anything else."""

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from taid_vlm.report.examples import Example, draw_examples


def examples(folder: Path, count: int) -> list[Example]:
    made = []
    for index in range(count):
        picture = folder / f"{index}.png"
        Image.new("RGB", (64, 64), (20 * index, 90, 160)).save(picture)
        question = "what is the colour of the very small shape that is not a circle?" if index % 2 else "is it red?"
        made.append(Example(picture, question, "$yes$", {"teacher": "$yes$", "taid": "no " * 20}))
    return made


@pytest.mark.parametrize("count", [1, 10])
def test_texts_are_inside_and_apart(tmp_path: Path, drawn: list[Figure], count: int) -> None:
    draw_examples(examples(tmp_path, count), tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        image.load()
    (figure,) = drawn
    texts = [text for axis in figure.axes for text in axis.texts]
    assert len(texts) == 4 * count
    boxes = [text.get_window_extent() for text in texts]
    boxes += [axis.images[0].get_window_extent() for axis in figure.axes if axis.images]
    for left, right in combinations(boxes, 2):
        assert not left.overlaps(right)
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_right_and_wrong_answers_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taid_vlm.report import examples as module

    example = Example(tmp_path / "x.png", "is it red?", "yes", {"teacher": " Yes", "taid": "no"})
    lines = module._lines(example)
    assert [text for text, _, _ in lines] == ["is it red?", "truth: yes", "✓ teacher:  Yes", "✗ taid: no"]
    assert lines[2][1] != lines[3][1]
