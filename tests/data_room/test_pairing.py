"""Teacher and student are lined up where they say the same ids; too many differences stop the run."""

import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Pairer, Record, pairing
from taid_vlm.data.pairing import MismatchedAnswerError, Pair, check_mismatches
from taid_vlm.models.processor import ImageTokens, Processor, Rendered, template_text
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.vision_encoder import ImageInput
from tests.tiny.language_model import tiny_tokenizer

IMAGE = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
PICTURES = (Path("a.png"),)
UNTILED, TILED = ImagesSpec(), ImagesSpec(tiling="dynamic", style="internvl", max_tiles=4)
SPLIT = ImagesSpec(tiling="split", style="smolvlm")


def processor(template: str, tokens: int, spec: ImagesSpec = UNTILED) -> Processor:
    return Processor(tiny_tokenizer(), template_text(template), ImageTokens("<empty_output>", tokens, IMAGE, spec))


def record(answer: Any = "a cat", images: tuple[Path, ...] = PICTURES) -> Record:
    question = [{"type": "image"}, {"type": "text", "text": "what?"}]
    return Record("sample-7", [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], images)


class LowerCase:
    """A model that says everything in lower case."""

    def __init__(self, inner: Processor) -> None:
        self.inner, self.tokenizer, self.needs_sizes = inner, inner.tokenizer, inner.needs_sizes

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, sizes: Any = None) -> Any:
        lowered = [m if m["role"] == "user" else {**m, "content": m["content"].lower()} for m in messages]
        return self.inner.render(lowered, add_generation_prompt, sizes)


def test_rows_of_both_sides_predict_the_labels() -> None:
    student, teacher = processor("chatml", 3), processor("smollm2", 7)
    pair = Pairer(student, teacher, 512).pair(record())
    assert pair.teacher is not None
    assert student.tokenizer.decode(pair.labels) == "a cat<|im_end|>"
    assert len(pair.teacher.ids) > len(pair.student.ids) + 4
    for side in (pair.student, pair.teacher):
        assert [side.ids[row + 1] for row in side.rows] == pair.labels
    assert pair.images == PICTURES


def test_without_a_teacher_there_is_one_side() -> None:
    pair = Pairer(processor("chatml", 3), None, 512).pair(record())
    assert pair.teacher is None
    assert len(pair.labels) == len(pair.student.rows)


def test_other_words_are_a_mismatch_that_shows_both() -> None:
    student = processor("chatml", 3)
    pairer = Pairer(student, LowerCase(student), 512)
    assert pairer.pair(record("a cat")).labels
    with pytest.raises(MismatchedAnswerError, match=r"sample-7.*'A cat<\|im_end\|>'.*'a cat<\|im_end\|>'"):
        pairer.pair(record("A cat"))


def test_the_longer_side_decides_about_the_length() -> None:
    student, teacher = processor("chatml", 3), processor("chatml", 30)
    length = len(teacher.render(record().messages).ids)
    assert Pairer(student, teacher, length).pair(record())
    with pytest.raises(BadSampleError, match=rf"sample-7 has {length} tokens.*max_length is {length - 1}"):
        Pairer(student, teacher, length - 1).pair(record())


@pytest.mark.parametrize("answer", ["", "  \n", None])
def test_a_sample_without_an_answer_is_named(answer: Any) -> None:
    with pytest.raises(BadSampleError, match="sample-7 has no answer"):
        Pairer(processor("chatml", 3), None, 512).pair(record(answer))


@pytest.mark.parametrize("images", [(), (Path("a.png"), Path("b.png"))])
def test_pictures_and_their_places_must_agree(images: tuple[Path, ...]) -> None:
    with pytest.raises(BadSampleError, match=f"1 image places and {len(images)} pictures"):
        Pairer(processor("chatml", 3), None, 512).pair(record(images=images))


@pytest.mark.parametrize(("found", "total", "stops"), [(0, 0, False), (1, 100, False), (2, 100, True), (1, 99, True)])
def test_more_than_one_percent_of_mismatches_stop(found: int, total: int, stops: bool) -> None:
    mismatches = [f"example {i}" for i in range(found)]
    if not stops:
        check_mismatches(mismatches, total)
        return
    with pytest.raises(UserError, match=f"(?s){found} of {total} answers.*example 0"):
        check_mismatches(mismatches, total)


def test_at_most_three_examples_are_shown() -> None:
    with pytest.raises(UserError) as told:
        check_mismatches([f"example {i}" for i in range(9)], 100)
    assert str(told.value).count("example") == 3


def interleaved(folder: Path) -> Record:
    """Two pictures in the first turn, with words between them, and a third (on its side) in the second."""
    exif = Image.Exif()
    exif[0x0112] = 8
    for name, size, about in (("a", (16, 8), None), ("b", (8, 8), None), ("c", (16, 8), exif)):
        Image.new("RGB", size).save(folder / f"{name}.jpg", **({"exif": about} if about else {}))
    image, words = {"type": "image"}, {"type": "text", "text": "beside"}
    turns = [[image, words, image], [words, image]]
    messages = [m for t in turns for m in ({"role": "user", "content": t}, {"role": "assistant", "content": "a cat"})]
    return Record("sample-8", messages, tuple(folder / f"{name}.jpg" for name in "abc"))


@pytest.mark.parametrize(
    ("student", "teacher"), [(TILED, UNTILED), (UNTILED, TILED), (SPLIT, TILED), (TILED, SPLIT), (TILED, None)]
)
def test_models_that_cut_pictures_otherwise_are_paired(
    tmp_path: Path, student: ImagesSpec, teacher: ImagesSpec | None
) -> None:
    record = interleaved(tmp_path)
    ours, theirs = processor("chatml", 3, student), processor("smollm2", 2, teacher) if teacher else None
    pair = Pairer(ours, theirs, 4096).pair(record)
    assert ours.tokenizer.decode(pair.labels) == "a cat<|im_end|>" * 2
    for side, made, per_tile in ((pair.student, ours, 3), (pair.teacher, theirs, 2)):
        if side is None or made is None:
            continue
        assert [side.ids[row + 1] for row in side.rows] == pair.labels
        tiles = [made.tiles_per_image(size) for size in ((16, 8), (8, 8), (8, 16))]
        assert side.ids.count(made.image_token_id) == per_tile * sum(tiles)
        if made.needs_sizes:
            assert sum(tiles) > 3


def test_all_tiles_count_for_the_length(tmp_path: Path) -> None:
    record, tiled = interleaved(tmp_path), processor("chatml", 30, TILED)
    length = len(Pairer(tiled, None, 4096).pair(record).student.ids)
    assert length > 30 * 7
    with pytest.raises(BadSampleError, match=f"sample-8 has {length} tokens"):
        Pairer(tiled, None, length - 1).pair(record)


def test_a_picture_without_a_size_is_a_bad_sample_only_where_sizes_count() -> None:
    assert Pairer(processor("chatml", 3), None, 512).pair(record())
    with pytest.raises(BadSampleError, match=r"picture not found: a\.png"):
        Pairer(processor("chatml", 3), processor("chatml", 3, TILED), 512).pair(record())


def turns(*answers: str, question: str = "what?") -> Record:
    """A conversation with a picture in every question."""
    asks = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    messages = [m for answer in answers for m in (asks, {"role": "assistant", "content": answer})]
    return Record("sample-9", messages, tuple(Path(f"{i}.png") for i in range(len(answers))))


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANSWERS = st.lists(WORDS.map(lambda words: words + "."), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(answers=ANSWERS, question=WORDS, ours=st.integers(1, 9), theirs=st.integers(1, 9))
def test_answer_rows_do_not_depend_on_picture_tokens_or_template(
    answers: list[str], question: str, ours: int, theirs: int
) -> None:
    student, teacher = processor("chatml", ours), processor("smollm2", theirs)
    pair = Pairer(student, teacher, 4096).pair(turns(*answers, question=question))
    alone = Pairer(processor("chatml", 1), None, 4096).pair(turns(*answers, question=question))
    assert pair.teacher is not None
    assert pair.labels == alone.labels
    for side, made, tokens in ((pair.student, student, ours), (pair.teacher, teacher, theirs)):
        assert [side.ids[row + 1] for row in side.rows] == pair.labels
        assert side.ids.count(made.image_token_id or 0) == tokens * len(answers)


class Shifted:
    """A model whose mask is one token off."""

    def __init__(self, inner: Processor, by: int) -> None:
        self.inner, self.by, self.tokenizer, self.needs_sizes = inner, by, inner.tokenizer, inner.needs_sizes
        self.image_token_id = inner.image_token_id

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, sizes: Any = None) -> Any:
        out = self.inner.render(messages, add_generation_prompt, sizes)
        mask = out.answer_mask
        return Rendered(out.ids, [False, *mask[:-1]] if self.by > 0 else [*mask[1:], False])


@pytest.mark.parametrize("by", [-1, 1])
def test_a_mask_that_is_one_token_off_is_caught(by: int) -> None:
    student = processor("chatml", 3)
    assert Pairer(student, processor("chatml", 5), 512).pair(turns("a cat", "no"))
    with pytest.raises(MismatchedAnswerError, match="sample-9"):
        Pairer(student, Shifted(processor("chatml", 5), by), 512).pair(turns("a cat", "no"))


def rows_follow_the_prompt(pair: Pair, made: Processor, record: Record) -> bool:
    """The first row is the last token of what the model is asked with, and the rows read the answer."""
    prompt = made.render(record.messages[:-1], add_generation_prompt=True).ids
    said = made.tokenizer.decode([pair.student.ids[row + 1] for row in pair.student.rows])
    return pair.student.rows[0] == len(prompt) - 1 and said == "a cat<|im_end|>"


@pytest.mark.parametrize("mutant", ["rows = [i for", "rows = [i - 2 for", "rows = [i + 1 for"])
def test_the_one_shift_is_tested(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, made = record("a cat"), processor("chatml", 3)
    assert rows_follow_the_prompt(Pairer(made, None, 512).pair(sample), made, sample)
    source = inspect.getsource(pairing._side)
    assert "rows = [i - 1 for" in source
    scope = dict(vars(pairing))
    exec(source.replace("rows = [i - 1 for", mutant), scope)
    monkeypatch.setattr(pairing, "_side", scope["_side"])
    with contextlib.suppress(IndexError):  # a row past the last token
        assert not rows_follow_the_prompt(Pairer(made, None, 512).pair(sample), made, sample)


def other_end() -> Processor:
    """ChatML that ends its turns with <|endoftext|>, which the same tokenizer has."""
    template = template_text("chatml").replace(
        "<|im_end|>' -}}{%- endgeneration", "<|endoftext|>' -}}{%- endgeneration"
    )
    return Processor(tiny_tokenizer(), template, ImageTokens("<empty_output>", 5, IMAGE))


def test_where_only_the_end_of_turn_differs_the_words_are_paired() -> None:
    pairer = Pairer(processor("chatml", 3), other_end(), 512)
    assert pairer.notes() == []
    pair = pairer.pair(turns("a cat", "no"))
    assert pair.teacher is not None
    assert pairer.student.tokenizer.decode(pair.labels) == "a catno"
    for side in (pair.student, pair.teacher):
        assert [side.ids[row + 1] for row in side.rows] == pair.labels
    assert (pairer.ends_differ, pairer.end_tokens_left_out) == (True, 2)
    assert "2 tokens are left out" in pairer.notes()[0]


def test_other_words_are_a_mismatch_whatever_ends_them() -> None:
    with pytest.raises(MismatchedAnswerError, match=r"'A cat<\|im_end\|>'.*'a cat<\|endoftext\|>'"):
        Pairer(processor("chatml", 3), LowerCase(other_end()), 512).pair(turns("A cat"))


@pytest.mark.parametrize("teacher", [None, "smollm2"])
def test_equal_ends_are_paired_whole(teacher: str | None) -> None:
    pairer = Pairer(processor("chatml", 3), processor(teacher, 3) if teacher else None, 512)
    assert pairer.student.tokenizer.decode(pairer.pair(turns("a cat", "no")).labels) == "a cat<|im_end|>no<|im_end|>"
    assert (pairer.ends_differ, pairer.end_tokens_left_out, pairer.notes()) == (False, 0, [])
