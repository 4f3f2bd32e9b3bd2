"""Figures beside an independent count, and what is shown of each sample."""

import json
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import open_image, read_records
from taid_vlm.data.record import Reason
from taid_vlm.models.saved import load_student
from taid_vlm.preview import make, make_preview, page
from taid_vlm.preview.measure import BINS, histogram
from taid_vlm.preview.tokens import visible
from taid_vlm.recipe import Recipe
from tests.preview.records import HOSTILE, talk, write_lines

GOOD = 6


def test_figures_are_those_of_an_independent_count(recipe: Recipe, trimming_teacher: Path, mixed: Path) -> None:
    found = make_preview(recipe, "tiny").figures
    teacher = load_student(trimming_teacher).processor
    rows = [json.loads(line) for line in mixed.read_text().splitlines()][:GOOD]
    ids, said = [], []
    for row in rows:
        sizes = [Image.open(mixed.parent / name).size for name in row["images"]]
        rendered = teacher.render(row["messages"], sizes=sizes)
        ids.append(len(rendered.ids))
        said.append(sum(rendered.answer_mask))
    student, theirs = found.sides
    assert (found.records, found.measured, found.usable, found.limit) == (13, 13, GOOD, 400)
    assert (theirs.tokens, theirs.answers, theirs.longest) == (sum(ids), sum(said), max(ids))
    assert theirs.share == pytest.approx(sum(said) / sum(ids))
    # A wide picture is 3 tiles to the teacher and 1 to the student, of 4 tokens each; the answers are the same.
    assert student.answers == theirs.answers
    assert student.tokens == theirs.tokens - 3 * 2 * 4
    for one in found.histogram:
        assert one.counts["teacher"] == sum(one.low <= n <= one.high for n in ids)
    assert sum(one.counts["student"] for one in found.histogram) == GOOD


def test_each_kind_of_bad_record_is_counted_with_an_example(recipe: Recipe, mixed: Path) -> None:
    found = make_preview(recipe, "tiny")
    assert sum(one.count for one in found.figures.dropped) == 13 - GOOD
    for one in found.figures.dropped:
        assert str(mixed.parent) in one.example
    text = "\n".join(one.example for one in found.figures.dropped)
    for words in ("has no answer", "the limit data.max_length is 400", "not found", "image places", "to the teacher"):
        assert words in text
    assert found.warnings == (
        "pictures are not found: their paths start at image_folder of the source, or at the folder of its file",
        "training would stop: 1 of 13 answers are not the same tokens for teacher and student (at most 1 % may differ)",
    )


def test_every_reason_is_shown_with_its_record(recipe: Recipe, mixed: Path, tmp_path: Path) -> None:
    huge = bytearray((mixed.parent / "square.png").read_bytes())
    huge[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(huge)
    here = str(mixed.parent)
    turns = talk("?", "yes")["messages"]
    rows: dict[str, Any] = {
        "unreadable row": "no object",
        "missing column": {"images": []},
        "wrong type": {"messages": 5},
        "wrong roles": {"messages": [{"role": "robot", "content": "x"}, turns[1]]},
        "broken text": talk("NUL \0", "yes"),
        "no answer": talk("?", ""),
        "image count": {**talk("?", "yes"), "images": [f"{here}/wide.png"]},
        "picture by URL": talk("?", "yes", ("https://example.com/a.png",)),
        "picture not found": talk("?", "yes", (f"{here}/missing.png",)),
        "broken picture": talk("?", "yes", (f"{here}/broken.png",)),
        "picture too large": talk("?", "yes", (str(tmp_path / "huge.png"),)),
        "too long": talk("long " * 100, "yes"),
        "answers differ": talk("?", "the teacher trims "),
    }
    assert set(rows) == set(get_args(Reason)) - {"other"}
    source = {"kind": "jsonl", "path": str(write_lines(tmp_path / "bad.jsonl", [*rows.values(), talk("?", "good")]))}
    content = {**recipe.model_dump(), "data": {**recipe.data.model_dump(), "train": [source]}}
    preview = make_preview(Recipe.model_validate(content), "tiny")
    assert {one.reason: one.count for one in preview.figures.dropped} == dict.fromkeys(rows, 1)
    root = ET.fromstring(page(preview))
    shown = {
        "".join(one.find("summary/b").itertext()): "".join(one.find("p/code").itertext())  # type: ignore[union-attr]
        for one in root.iter("details")
        if one.find("p/code") is not None
    }
    assert shown == {one.reason: visible(one.example) for one in preview.figures.dropped}


def test_a_picture_that_breaks_off_is_dropped(recipe: Recipe, mixed: Path) -> None:
    rows = [talk("?", "yes", (str(mixed.parent / name),)) for name in ("broken.png", "square.png", "broken.png")]
    source = {"kind": "jsonl", "path": str(write_lines(mixed.parent / "pictures.jsonl", rows))}
    data = recipe.data.model_copy(update={"train": [type(recipe.data.train[0]).model_validate(source)]})
    found = make_preview(recipe.model_copy(update={"data": data}), "tiny")
    assert (found.figures.usable, [one.count for one in found.figures.dropped]) == (1, [2])
    assert "broken.png" in found.figures.dropped[0].example


def test_what_training_refuses_is_shown_rather_than_met(recipe: Recipe) -> None:
    data = recipe.data.model_copy(update={"on_bad_sample": "refuse"})
    found = make_preview(recipe.model_copy(update={"data": data}), "tiny")
    assert "6 of 13 samples cannot be used, and data.on_bad_sample is refuse" in found.warnings[0]
    data = recipe.data.model_copy(update={"max_length": 8})
    found = make_preview(recipe.model_copy(update={"data": data}), "tiny")
    assert (found.samples, found.figures.sides, found.figures.histogram) == ([], (), ())
    assert "no sample is left" in found.warnings[-1]


def test_trimmed_samples_are_counted_and_marked(recipe: Recipe, tmp_path: Path) -> None:
    long = talk("first?", "yes")
    long["messages"] += [{"role": "user", "content": "more " * 100}, {"role": "assistant", "content": "no"}]
    source = {"kind": "jsonl", "path": str(write_lines(tmp_path / "long.jsonl", [long, talk("short?", "yes")]))}
    data = {"train": [source], "too_long": "trim", "max_length": 200}
    found = make_preview(Recipe.model_validate({**recipe.model_dump(), "data": data}), "tiny")
    assert (found.figures.usable, found.figures.trimmed, found.figures.dropped) == (2, 1, ())
    assert [sample.trimmed for sample in found.samples] == [True, False]
    assert "".join(p.text for p in found.samples[0].sides[0].pieces if p.supervised) == "yes<|im_end|>"
    assert any("lost turns" in warning for warning in found.warnings)


def test_a_long_text_is_several_samples_of_which_all_is_learnt(language_model: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("All work and no play. " * 10)
    content = {
        "student": {"language_model": {"source": str(language_model)}},
        "data": {"train": [{"kind": "text", "path": str(tmp_path / "long.txt")}], "max_length": 100},
        "loss": {"name": "sft"},
        "training": {"steps": 1, "batch_size": 1, "lr": 1e-3},
    }
    found = make_preview(Recipe.model_validate(content), "tiny")
    figures = found.figures
    assert (figures.records, figures.samples, figures.usable, len(found.samples)) == (1, 3, 3, 3)
    (side,) = figures.sides
    assert (side.longest, side.answers) == (100, side.tokens - 3)
    assert [p.supervised for p in found.samples[0].sides[0].pieces][:2] == [False, True]


def test_samples_are_shown_as_the_models_see_them(recipe: Recipe, mixed: Path) -> None:
    first, _, two, hostile, _ = make_preview(recipe, "tiny").samples
    student, teacher = first.sides
    for side, picture_tokens in ((student, 4), (teacher, 12)):
        assert [p.repeats for p in side.pieces if p.kind == "image"] == [picture_tokens]
        assert "".join(p.text for p in side.pieces if p.supervised) == "red<|im_end|>"
        assert side.supervised == sum(p.tokens for p in side.pieces if p.supervised)
        assert sum(p.tokens for p in side.pieces) == len(side.ids)
    assert "".join(p.text for p in hostile.sides[0].pieces if p.supervised) == HOSTILE + "<b>bold</b><|im_end|>"
    assert [picture.size for picture in two.pictures] == [(16, 16), (128, 64)]


def test_tiles_are_drawn_as_the_processor_cuts_them(recipe: Recipe, trimming_teacher: Path, mixed: Path) -> None:
    plain, tiled = make_preview(recipe, "tiny", samples=1).samples[0].pictures[0].cuts
    assert (plain.names, plain.tiles, plain.thumbnail) == (("student",), 1, None)
    assert (tiled.names, tiled.tiles) == (("teacher",), 3)
    assert tiled.text == "1 x 2 tiles and the whole picture, each 64 x 64 pixels"
    processor = load_student(trimming_teacher).processor
    tiles = processor.tiles(open_image(mixed.parent / "wide.png"))
    drawn = np.asarray(tiled.mosaic)
    np.testing.assert_array_equal(drawn[:, :64], np.asarray(tiles[0]))
    np.testing.assert_array_equal(drawn[:, -64:], np.asarray(tiles[1]))
    assert tiled.thumbnail is not None
    assert tiled.thumbnail.getpixel((0, 0)) == tiles[2].getpixel((0, 0))


def test_models_that_cut_alike_share_a_picture(language_model: Path, recipe: Recipe) -> None:
    images = {"tiling": "dynamic", "max_tiles": 4, "thumbnail": True}
    student = type(recipe.student).model_validate({**recipe.student.model_dump(), "images": images})
    cuts = make_preview(recipe.model_copy(update={"student": student}), "tiny", samples=1).samples[0].pictures[0].cuts
    assert [cut.names for cut in cuts] == [("student", "teacher")]


def test_a_part_is_measured_unless_all_is_asked_for(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "SAMPLE", 5)
    assert make_preview(recipe, "tiny").figures.measured == 5
    assert "5 of 13 records" in make_preview(recipe, "tiny").figures.scope
    whole = make_preview(recipe, "tiny", scan=True).figures
    assert (whole.measured, whole.scope) == (13, "all 13 records")


def test_a_seed_draws_other_samples(recipe: Recipe) -> None:
    def names(seed: int | None) -> list[str]:
        return [sample.id for sample in make_preview(recipe, "tiny", samples=3, seed=seed).samples]

    records = [record.id for record in read_records(recipe.data.train, 0)]
    assert names(None) == records[:3]
    assert names(1) == names(1)
    assert len({tuple(names(seed)) for seed in range(5)}) > 1


def test_held_out_records_are_shown_when_asked_for(recipe: Recipe, easy_vqa: Path) -> None:
    with pytest.raises(UserError, match=r"data\.validation is empty"):
        make_preview(recipe, "tiny", split="validation")
    held_out = [type(recipe.data.train[0])(kind="easy_vqa", path=str(easy_vqa), split="test")]
    data = recipe.data.model_copy(update={"validation": held_out, "answers": "teacher"})
    asked = recipe.model_copy(update={"data": data})
    preview = make_preview(asked, "tiny", split="validation")
    assert (preview.figures.records, preview.to_json()["split"]) == (8, "validation")
    assert [sample.id for sample in preview.samples] == [r.id for r in read_records(held_out, 0)][:5]
    assert preview.chosen == "the first of data.validation"
    assert "all 8 records, held out (data.validation)" in page(preview)
    # The teacher writes answers of training records alone.
    assert preview.warnings == ()
    assert any("data.answers is teacher" in warning for warning in make_preview(asked, "tiny").warnings)


def test_the_json_holds_the_figures(recipe: Recipe) -> None:
    preview = make_preview(recipe, "tiny", samples=2)
    content = json.loads(json.dumps(preview.to_json()))
    assert content["usable"] == GOOD
    assert content["sides"][0]["share"] == pytest.approx(preview.figures.sides[0].share)
    assert content["samples"][0]["sides"]["teacher"] == {
        "tokens": len(preview.samples[0].sides[1].ids),
        "answers": len("red") + 1,
    }
    assert content["samples"][0]["pictures"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"train": [{"kind": "jsonl", "path": "nowhere"}]}}, "data file not found"),
        ({"loss": {"name": "tiad"}}, "did you mean 'taid'"),
    ],
)
def test_a_bad_recipe_is_refused(recipe: Recipe, change: dict[str, object], message: str) -> None:
    changed = Recipe.model_validate({**recipe.model_dump(), **change})
    with pytest.raises(UserError, match=message):
        make_preview(changed, "tiny")


@given(
    st.dictionaries(st.sampled_from(["student", "teacher"]), st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
)
def test_every_length_is_in_one_bin(lengths: dict[str, list[int]]) -> None:
    bins = histogram(lengths)
    assert len(bins) <= BINS
    for name, some in lengths.items():
        expected = Counter(next(i for i, one in enumerate(bins) if one.low <= n <= one.high) for n in some)
        assert [one.counts[name] for one in bins] == [expected[i] for i in range(len(bins))]
    assert all(before.high + 1 == after.low for before, after in pairwise(bins))
