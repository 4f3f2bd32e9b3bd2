"""Answers written by the teacher: cached, resumed at the batch a signal left off at, and learnt whatever the tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import Record
from taid_vlm.models.generate import Answer
from taid_vlm.models.specs import LanguageModelSpec
from taid_vlm.models.teacher import Teacher, teacher_from_checkpoint, teacher_from_language_model
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.data_spec import DataSpec
from taid_vlm.training import train, written_answers
from taid_vlm.training.setup import prepare
from taid_vlm.training.written_answers import WrittenAnswers
from tests.tiny.language_model import end_at_the_limit, save_chatty_llama
from tests.tiny.native import MAKERS, TURN, save_native
from tests.tiny.native import SPECIALS as NATIVE_SPECIALS
from tests.tiny.recipes import logged_steps, tiny_recipe


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never ends an answer."""
    return save_chatty_llama(tmp_path_factory.mktemp("endless") / "llama", seed=5)


def written(teacher: Teacher, most: int = 4, precision: str = "fp32", max_length: int = 512) -> WrittenAnswers:
    return WrittenAnswers(teacher, most, precision, max_length)


def teacher_of(folder: Path) -> Teacher:
    return teacher_from_language_model(LanguageModelSpec(source=str(folder)))


def questions(count: int) -> list[Record]:
    return [
        Record(str(i), [{"role": "user", "content": f"number {i}"}, {"role": "assistant", "content": "gold"}])
        for i in range(count)
    ]


def said(records: list[Record]) -> list[str]:
    return [record.messages[-1]["content"] for record in records]


def counted(teacher: Teacher, monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[int]:
    """Sizes of the batches that the teacher answers from now on; at a given one Ctrl-C comes."""
    asked: list[int] = []
    answers = Teacher.answers

    def counting(self: Teacher, conversations: Any, images: Any, most: int) -> list[str]:
        if len(asked) == fail_at:
            raise KeyboardInterrupt
        asked.append(len(conversations))
        return answers(self, conversations, images, most)

    monkeypatch.setattr(Teacher, "answers", counting)
    return asked


def test_last_answers_are_the_teachers_own(chatty: Path) -> None:
    teacher = teacher_of(chatty)
    records = questions(3)
    turns = [*records[0].messages, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "gold"}]
    records.append(Record("turns", turns))
    answered = written(teacher, 5).replaced(records)
    assert (answered.left_out, answered.kept, answered.told()) == ({}, 0, [])
    for record, own in zip(answered.records, records, strict=True):
        (expected,) = teacher.answers([own.messages[:-1]], [[]], 5)
        assert expected.ended
        assert record.messages == [*own.messages[:-1], {"role": "assistant", "content": expected.text}]
        assert expected.text not in ("", "gold")
    assert len(set(said(answered.records))) > 1


def test_an_answer_that_does_not_end_is_left_out_and_counted(chatty: Path, endless: Path) -> None:
    teacher = teacher_of(endless)
    (answer,) = teacher.answers([questions(1)[0].messages[:-1]], [[]], 4)
    assert answer.text
    assert not answer.ended
    for _ in range(2):  # written, and read
        answered = written(teacher).replaced(questions(3))
        assert (answered.records, answered.left_out) == ([], {"cut": 3})
    assert answered.told() == [
        "3 of 3 samples are left out: the teacher's answer is longer than data.answer_tokens; raise it to keep them"
    ]
    assert len(written(teacher_of(chatty)).replaced(questions(3)).records) == 3


def test_records_that_do_not_end_with_an_answer_keep_those_they_have(chatty: Path) -> None:
    asked = questions(1)[0]
    open_end = Record("open", [*asked.messages, {"role": "user", "content": "and?"}])
    twice = Record("twice", [*asked.messages, {"role": "assistant", "content": "more gold"}])
    text, broken = Record("text", [], text="a document"), Record("broken", asked.messages[:1])
    answered = written(teacher_of(chatty)).replaced([open_end, asked, twice, text, broken])
    assert [answered.records[i] for i in (0, 2, 3, 4)] == [open_end, twice, text, broken]
    assert said(answered.records[1:2]) != ["gold"]
    assert answered.kept == 2
    assert answered.told() == ["2 of 5 samples keep their own answers: they do not end with one to a question"]


def test_a_stopped_run_goes_on_at_its_batch(chatty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_answers, "BATCH", 2)
    monkeypatch.setattr(written_answers, "SHARD", 4)
    teacher = teacher_of(chatty)
    with monkeypatch.context() as patched:
        asked = counted(teacher, patched, fail_at=3)
        with pytest.raises(KeyboardInterrupt):
            written(teacher, 4).replaced(questions(10))
        assert asked == [2, 2, 2]
    folder = written(teacher, 4).folder
    assert len(list(folder.iterdir())) == 2  # a whole shard, and half of one
    asked = counted(teacher, monkeypatch)
    resumed = written(teacher, 4).replaced(questions(10)).records
    assert sum(asked) == 4
    again = written(teacher, 4).replaced(questions(10)).records
    assert sum(asked) == 4
    assert said(again) == said(resumed)
    alone = teacher.answers([r.messages[:-1] for r in questions(10)], [[]] * 10, 4)
    assert said(resumed) == [answer.text for answer in alone]


def test_what_decides_an_answer_decides_its_place(chatty: Path, language_model: Path) -> None:
    teacher, other = teacher_of(chatty), teacher_of(language_model)
    variants: list[tuple[Teacher, int, str, int]] = [
        (teacher, 4, "fp32", 64),
        (teacher, 5, "fp32", 64),
        (teacher, 4, "bf16", 64),
        (teacher, 4, "fp32", 65),
        (other, 4, "fp32", 64),
    ]
    assert len({WrittenAnswers(*variant).folder for variant in variants}) == 5


def test_a_damaged_shard_is_named(chatty: Path) -> None:
    answers = written(teacher_of(chatty), 4)
    answers.replaced(questions(2))
    (shard,) = answers.folder.iterdir()
    shard.write_text(json.dumps({}))
    with pytest.raises(UserError, match=f"damaged: .*{shard.name}.*delete the file"):
        answers.replaced(questions(2))


def test_records_without_a_question_stay_and_the_wordless_teacher_is_counted(
    chatty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Record("text", [], text="a document")
    missing = Record("missing", [{"role": "user", "content": [{"type": "image"}]}, questions(1)[0].messages[1]])
    nothing = Answer("", ended=True)
    monkeypatch.setattr(Teacher, "answers", lambda self, conversations, images, most: [nothing] * len(conversations))
    answered = written(teacher_of(chatty), 4).replaced([text, missing, *questions(2)])
    assert answered.records == [text, missing]
    assert (answered.left_out, answered.kept) == ({"no words": 2}, 0)
    assert answered.told() == ["2 of 4 samples are left out: the teacher has no answer"]


def test_a_picture_that_the_teacher_does_not_take_leaves_its_sample_out(tmp_path: Path) -> None:
    folder = end_at_the_limit(save_native(tmp_path / "qwen", "qwen2_vl"), NATIVE_SPECIALS.index(TURN))
    teacher = teacher_from_checkpoint(str(folder))
    records = []
    for name, size in (("thin", (4, 1200)), ("good", (30, 20))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
        look = [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "gold"}]
        records.append(Record(name, look, (tmp_path / f"{name}.png",)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    records.append(Record("broken", records[0].messages, (tmp_path / "broken.png",)))
    answered = written(teacher, 4).replaced(records)
    assert [record.id for record in answered.records] == ["good", "broken"]
    assert answered.records[1] == records[2]
    assert (answered.left_out, answered.kept) == ({"picture": 1}, 0)
    with pytest.raises(UserError) as refused:
        teacher.processor.render(records[0].messages[:-1], True, [(4, 1200)])
    assert answered.told() == [
        f"1 of 3 samples are left out: the teacher cannot be asked that; the first: {refused.value}"
    ]
    stored = [json.loads(file.read_text()) for file in written(teacher, 4).folder.glob("*.json")]
    assert sum(map(len, stored)) == 1  # another version may take it
    again = written(teacher, 4).replaced(records)
    assert (again.left_out, again.told()) == (answered.left_out, answered.told())


@pytest.mark.parametrize("family", MAKERS)
def test_a_stock_teacher_answers_alone_as_in_a_batch(tmp_path: Path, family: str) -> None:
    teacher = teacher_from_checkpoint(str(save_native(tmp_path / family, family)))
    look = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this picture of?"}]}]
    hello = [{"role": "user", "content": "Hi"}]
    picture = Image.radial_gradient("L").convert("RGB").resize((50, 30))
    together = teacher.answers([look, hello], [[picture], []], 6)
    assert together == [*teacher.answers([look], [[picture]], 6), *teacher.answers([hello], [[]], 6)]


def distil(language_model: Path, easy_vqa: Path, folder: Path, **changes: Any) -> Recipe:
    data = tiny_recipe(language_model, easy_vqa).data.model_dump() | {"answers": "teacher", "answer_tokens": 4}
    content = {
        "teacher": {"checkpoint": str(folder)},
        "data": data,
        "training": {"steps": 2, "batch_size": 4, "lr": 5e-3, "precision": "fp32"},
    }
    return tiny_recipe(language_model, easy_vqa, **{**content, **changes})


def test_a_teacher_with_another_tokenizer_teaches_by_its_words(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    folder = end_at_the_limit(save_native(tmp_path / "teacher", "internvl"), NATIVE_SPECIALS.index(TURN))
    recipe = distil(language_model, easy_vqa, folder)
    setup = prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda text: None)
    assert setup.teacher is None
    assert not {"red", "blue"} & set(said(list(setup.train.records)))
    assert setup.validation is not None
    assert {"red", "blue"} == set(said(list(setup.validation.records)))
    train(recipe, tmp_path / "run")
    assert len(logged_steps(tmp_path / "run")) == 2
    with pytest.raises(UserError, match=r"Two ways out: a student .* teacher's tokenizer, or .*data.answers: teacher"):
        train(distil(language_model, easy_vqa, folder, loss={"name": "kl"}), tmp_path / "kl")


def test_a_run_whose_answers_are_all_cut_says_what_to_raise(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    folder = save_native(tmp_path / "teacher", "internvl")
    told: list[str] = []
    with pytest.raises(UserError, match=r"where answers are cut raise data\.answer_tokens"):
        prepare(distil(language_model, easy_vqa, folder), Accelerator(cpu=True), None, "fp32", told.append)
    assert told[-1].startswith("24 of 24 samples are left out: the teacher's answer is longer than data.answer_tokens")


def test_a_recipe_without_a_teacher_is_refused(language_model: Path, easy_vqa: Path) -> None:
    with pytest.raises(ValueError, match="needs a teacher to write them"):
        distil(language_model, easy_vqa, Path("unused"), teacher=None)


def test_no_gradient_is_kept(chatty: Path) -> None:
    teacher = teacher_of(chatty)
    teacher.answers([questions(1)[0].messages[:-1]], [[]], 2)
    assert not any(isinstance(p.grad, torch.Tensor) for p in teacher.model.parameters())


def test_a_question_beyond_the_limit_has_no_answer(chatty: Path) -> None:
    short, long = questions(2)
    long = Record("long", [{"role": "user", "content": "word " * 500}, long.messages[1]])
    answered = written(teacher_of(chatty), max_length=64).replaced([short, long])
    assert [record.id for record in answered.records] == [short.id]
    assert answered.left_out == {"long question": 1}


def test_processes_share_the_writing(chatty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_of(chatty)
    alone = written(teacher, 6).replaced(questions(12)).records
    teacher.fingerprint += " of another run"
    asked = counted(teacher, monkeypatch)

    def the_other() -> None:  # writes its part while this one waits
        written(teacher, 6).replaced(questions(12), share=(1, 2))

    together = written(teacher, 6).replaced(questions(12), share=(0, 2), wait=the_other).records
    assert sum(asked) == 12
    assert len(asked) >= 2
    assert said(together) == said(alone)


def test_answers_that_another_process_wrote_elsewhere_are_missed(chatty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_answers, "PATIENCE", 0.0)
    with pytest.raises(UserError, match=r"do not see one folder of written answers: .*set TAID_VLM_CACHE to a folder"):
        written(teacher_of(chatty), 6).replaced(questions(12), share=(0, 2))


def test_answers_that_are_seen_late_are_waited_for(chatty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_of(chatty)

    def the_other(seconds: float) -> None:  # writes while this one looks
        written(teacher, 6).replaced(questions(12), share=(1, 2))

    monkeypatch.setattr(written_answers, "PATIENCE", 5.0)
    monkeypatch.setattr(written_answers.time, "sleep", the_other)
    assert len(written(teacher, 6).replaced(questions(12), share=(0, 2)).records) == 12


def test_pictures_are_not_asked_of_a_teacher_that_takes_none(tmp_path: Path, chatty: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    look = [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "gold"}]
    with pytest.raises(UserError, match=r"takes no pictures.*sample shown\).*a teacher that sees"):
        written(teacher_of(chatty)).replaced([*questions(2), Record("shown", look, (tmp_path / "a.png",))])


def test_another_tokenizer_has_other_answers(tmp_path: Path) -> None:
    folder = save_chatty_llama(tmp_path / "llama")
    before = teacher_of(folder)
    rules = json.loads((folder / "tokenizer.json").read_text()) | {"normalizer": {"type": "Lowercase"}}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    after = teacher_of(folder)
    assert before.processor.tokenizer("ABC")["input_ids"] != after.processor.tokenizer("ABC")["input_ids"]
    assert written(before).folder != written(after).folder


def test_trimming_does_not_go_with_written_answers() -> None:
    with pytest.raises(ValueError, match="trim would cut off the answers"):
        DataSpec.model_validate({"train": [{"kind": "jsonl", "path": "x"}], "answers": "teacher", "too_long": "trim"})
