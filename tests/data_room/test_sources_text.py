"""Documents: every token but the first is learnt, by both models, and long ones are cut into blocks that lose nothing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Pairer, PreparedRecords, Record, read_records
from taid_vlm.data.screening import Screening
from taid_vlm.data.text import blocks
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.data_spec import DataSource
from tests.tiny.language_model import tiny_tokenizer

EOS = "<|im_end|>"


def read(path: Path, **options: Any) -> list[Record]:
    return read_records([DataSource(kind="text", path=str(path), **options)], seed=0)


def processor(bos: bool = False, sees: bool = False, extra: tuple[str, ...] = ()) -> Processor:
    tokenizer = tiny_tokenizer(extra)
    if bos:
        tokenizer.bos_token = "<|endoftext|>"
        adds = processors.TemplateProcessing("<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        tokenizer.backend_tokenizer.post_processor = adds
    image = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    return Processor(tokenizer, template_text("chatml"), ImageTokens("<empty_output>", 2, image) if sees else None)


def document(text: str) -> Record:
    return Record("doc", [], text=text)


def test_documents_come_from_files_lines_and_tables(tmp_path: Path) -> None:
    (tmp_path / "books" / "more").mkdir(parents=True)
    (tmp_path / "books" / "a.txt").write_text("Ein Büch.\n", encoding="utf-8")
    (tmp_path / "books" / "more" / "b.txt").write_text("Two.")
    assert [record.text for record in read(tmp_path / "books")] == ["Ein Büch.\n", "Two."]
    assert [record.text for record in read(tmp_path / "books" / "a.txt")] == ["Ein Büch.\n"]
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"content": "two"}\n')
    good, bad = read(tmp_path)
    assert good.text == "one"
    assert bad.broken is not None
    pq.write_table(pa.Table.from_pylist([{"content": "from a table", "id": "x"}]), tmp_path / "x.parquet")
    (record,) = read(tmp_path / "x.parquet", columns={"text": "content"})
    assert (record.text, record.messages, record.images) == ("from a table", [], ())
    assert record.id.endswith("x.parquet split train row 0 (id x)")


def test_plain_text_is_no_conversation(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="use kind: text"):
        read_records([DataSource(kind="ultrachat", path=str(tmp_path / "a.txt"))], 0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(False, None), (True, None), (False, False), (True, True), (True, False), (False, True)]
)
def test_all_tokens_but_the_first_are_learnt(ours: bool, theirs: bool | None) -> None:
    student = processor(ours)
    pair = Pairer(student, None if theirs is None else processor(theirs), 64).pair(document("Hello 你"))
    text = student.tokenizer("Hello 你", add_special_tokens=False)["input_ids"]
    both = ours and theirs is not False
    assert pair.labels == [*text, 2][0 if both else 1 :]
    for side, bos in ((pair.student, ours), (pair.teacher, theirs)):
        if side is None:
            continue
        assert side.ids == [*([0] if bos else []), *text, 2]
        assert [side.ids[row + 1] for row in side.rows] == pair.labels


def test_the_end_is_left_out_where_the_teacher_has_no_such_token() -> None:
    student, teacher = processor(), processor()
    teacher.tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    # The student's EOS is the same token for the teacher, whatever the teacher ends with.
    assert Pairer(student, teacher, 64).pair(document("ab")).labels[-1] == 2
    student.tokenizer.add_special_tokens({"eos_token": "<|new|>"})
    pair = Pairer(student, teacher, 64).pair(document("ab"))
    assert student.tokenizer.decode(pair.student.ids) == "ab"


def test_control_tokens_in_a_text_are_text() -> None:
    student = processor(sees=True)
    pair = Pairer(student, None, 128).pair(document("a<|im_end|>b<empty_output>c"))
    assert student.tokenizer.decode(pair.student.ids) == "a<|im_end|>b<empty_output>c" + EOS
    assert pair.student.ids.count(2) == 1
    assert student.image_token_id not in pair.student.ids
    # The tokenizer still knows its control tokens afterwards.
    assert Pairer(student, None, 128).pair(Record("x", [{"role": "assistant", "content": "a"}])).labels[-1] == 2


@pytest.mark.parametrize("text", ["", " \n", "x"])
def test_a_text_that_teaches_nothing_is_bad(text: str) -> None:
    with pytest.raises(BadSampleError) as told:
        Pairer(processor(), None, 64).pair(Record("doc", [], text=text, continues=True))
    assert told.value.reason == "no answer"


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=120),
    st.integers(8, 24),
    st.booleans(),
)
def test_blocks_fit_and_together_are_the_document(text: str, length: int, bos: bool) -> None:
    pairer = Pairer(processor(bos), processor(bos), length)
    found = list(blocks(document(text), pairer.models, length))
    joined = "".join(block.text or "" for block in found)
    # Only white space that would be a block of its own is missing.
    assert "".join(joined.split()) == "".join(text.split())
    if len(found) == 1:
        assert (found[0].text, found[0].id) == (text, "doc") or not text.strip() or joined.strip() == text.strip()
        return
    assert len({block.id for block in found}) == len(found)
    assert all(block.continues for block in found[:-1])
    for block in found:
        if block.continues and len(block.text or "") == 1:
            continue  # a single token teaches nothing where there is no BOS
        pair = pairer.pair(block)
        assert len(pair.student.ids) <= length
        assert (pair.student.ids[-1] == 2) == (not block.continues)


def test_screening_cuts_long_documents_and_leaves_the_rest_alone() -> None:
    text = " ".join(f"word{i}" for i in range(60))
    talk = Record("talk", [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
    pairer = Pairer(processor(), None, 64)
    screening = Screening(pairer, skip_bad=False)
    kept = [record for record, _ in screening.usable([talk, document(text), document("short")])]
    assert kept[0] is talk
    assert "".join(record.text or "" for record in kept[1:-1]) == text
    assert [record.continues for record in kept[1:]] == [True] * (len(kept) - 3) + [False, False]
    assert max(len(pairer.pair(record).student.ids) for record in kept) == 64
    prepared = PreparedRecords(kept, pairer, False, decode_pictures=True)
    assert (
        len({record.text_digest() for record in kept})
        == len(kept)
        == len({prepared[i][0].id for i in range(len(kept))})
    )


def test_a_digest_knows_whether_a_document_ends() -> None:
    assert document("a").text_digest() != Record("doc", [], text="a", continues=True).text_digest()
    assert document("a").text_digest() != document("b").text_digest()
    assert json.dumps(Record("x", []).messages) == "[]"
