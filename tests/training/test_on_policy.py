"""Answers of the student in place of the data set's: the same however samples are dealt, and after a kill."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.data import Pairer, Record, open_image
from taid_vlm.models.generate import continued_ids, student_answers
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.recipe import Recipe
from taid_vlm.training.on_policy import writing
from taid_vlm.training.on_policy.pairs import WrittenPairs
from taid_vlm.training.on_policy.writing import StudentAnswers
from taid_vlm.training.setup import Setup
from tests.training.on_policy_cases import (
    CPU,
    END,
    SmallRun,
    answers,
    batches_of,
    changed,
    on_policy_of,
    recipe_for,
    setup_of,
    written_rows,
)

Case = tuple[Recipe, Setup]
SPECIALS = range(4)  # ids of the tiny tokenizer's special tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-policy")


@pytest.fixture(scope="module")
def case(folder: Path, language_model: Path) -> Case:
    recipe = recipe_for(folder, language_model)
    return recipe, setup_of(recipe)


@pytest.mark.parametrize("draw", ["step", "sample"])
def test_answers_do_not_depend_on_how_samples_are_dealt(case: Case, draw: str) -> None:
    recipe, setup = case
    recipe = changed(recipe, draw=draw, share=0.6)
    found = []
    for micro, world, size in ((4, 1, 3), (2, 1, 1), (1, 1, 4), (2, 2, 2), (1, 4, 3)):
        step: dict[int, dict[str, list[int]]] = {number: {} for number in range(4)}
        for rank in range(world):
            own = on_policy_of(changed(recipe, batch_size=size), setup, rank=rank, world=world)
            for number in step:
                dealt = batches_of(setup, own, number, micro, rank=rank, world=world)
                step[number] |= answers(own.replaced(dealt, number))
        found.append(step)
    assert all(one == found[0] for one in found)
    assert len({tuple(ids) for step in found[0].values() for ids in step.values()}) > 8
    own_by_step = [{ids != given(setup)[name] for name, ids in step.items()} for step in found[0].values()]
    assert {True, False} <= set.union(*own_by_step)
    assert ({True, False} in own_by_step) == (draw == "sample")


def given(setup: Setup) -> dict[str, list[int]]:
    return {record.id: setup.train.pairer.pair(record).labels for record in setup.train.records}


def test_answers_differ_by_step_and_seed_and_not_by_call(case: Case) -> None:
    recipe, setup = case
    own = on_policy_of(recipe, setup)
    dealt = batches_of(setup, own, 0)
    first = answers(own.replaced(dealt, 0))
    assert answers(own.replaced(dealt, 0)) == first
    assert answers(own.replaced(dealt, 1)) != first
    assert answers(on_policy_of(recipe.model_copy(update={"seed": 1}), setup).replaced(dealt, 0)) != first


def test_an_answer_that_ended_keeps_its_end(case: Case) -> None:
    recipe, setup = case
    own = on_policy_of(changed(recipe, max_new_tokens=60), setup)
    written = []
    for step in range(6):
        batches = own.replaced(batches_of(setup, own, step), step)
        written += [ids for name, ids in answers(batches).items() if ids != given(setup)[name]]
    ended = [ids for ids in written if ids[-1] == END]
    assert 0 < len(ended) < len(written)
    assert all(ids[-1] in SPECIALS or ids[-1] >= 260 for ids in written if len(ids) < 60)
    assert not any(token in SPECIALS for ids in written for token in ids[:-1])


def test_answers_do_not_depend_on_where_the_data_is(case: Case, tmp_path: Path, language_model: Path) -> None:
    recipe, setup = case
    moved = recipe_for(tmp_path, language_model)
    elsewhere = setup_of(moved)
    found = []
    for one, its in ((recipe, setup), (moved, elsewhere)):
        own = on_policy_of(one, its)
        found.append(list(answers(own.replaced(batches_of(its, own, 0), 0)).values()))
    assert found[0] == found[1]
    assert [record.id for record in setup.train.records] != [record.id for record in elsewhere.train.records]


def test_each_sample_has_numbers_of_its_own(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, setup = case
    given: list[tuple[str, list[float]]] = []
    write = StudentAnswers.write

    def spy(self: Any, records: list[Record], numbers: list[torch.Tensor]) -> list[list[int]]:
        given.extend((record.id, some.tolist()) for record, some in zip(records, numbers, strict=True))
        return write(self, records, numbers)

    monkeypatch.setattr(StudentAnswers, "write", spy)
    own = on_policy_of(recipe, setup)
    for step in range(3):
        own.replaced(batches_of(setup, own, step), step)
    single = [number for _, numbers in given for number in numbers]
    assert len(given) == 12
    assert len(set(single)) == len(single) == 12 * 12


def test_the_student_is_left_as_it_was(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, setup = case
    own = on_policy_of(recipe, setup)
    while_writing = []

    def spy(student: Any, *rest: Any) -> torch.Tensor:
        while_writing.append((any(part.training for part in student.modules()), torch.is_grad_enabled()))
        return continued_ids(student, *rest)

    monkeypatch.setattr(writing, "continued_ids", spy)
    setup.student.train()
    modes = [part.training for part in setup.student.modules()]
    assert True in modes
    assert False in modes  # the frozen encoder
    dealt = batches_of(setup, own, 0)
    random = torch.get_rng_state()
    own.replaced(dealt, 0)
    assert [part.training for part in setup.student.modules()] == modes
    assert set(while_writing) == {(False, False)}
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(isinstance(p.grad, torch.Tensor) for p in setup.student.parameters())


def test_greedy_answers_are_those_of_an_evaluation(case: Case) -> None:
    recipe, setup = case
    records = list(setup.train.records)
    writer = StudentAnswers(setup, changed(recipe, temperature=0.0).on_policy, CPU)
    written = writer.write(records, [torch.zeros(12, dtype=torch.float64)] * len(records))
    expected = student_answers(
        setup.student,
        setup.processor,
        [record.messages[:-1] for record in records],
        [[open_image(picture) for picture in record.images] for record in records],
        12,
    )
    words = setup.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
    assert [text.strip() for text in words] == [one.text for one in expected]
    assert [ids[-1] == END for ids in written] == [one.ended for one in expected]


def test_a_step_of_given_answers_is_left_untouched(case: Case) -> None:
    recipe, setup = case
    own = on_policy_of(changed(recipe, share=0.0), setup)
    dealt = batches_of(setup, own, 0, 2)
    replaced = own.replaced(dealt, 0)
    assert all(one is other for one, other in zip(replaced, dealt, strict=True))
    counts = {"written": 0, "replayed": 0, "kept": 0, "cut": 0, "tokens": 0, "threshold": 0}
    assert own.figures(lambda values: values) == {f"on_policy_{name}": value for name, value in counts.items()}


def test_the_first_steps_are_the_data_sets(case: Case) -> None:
    recipe, setup = case
    own = on_policy_of(changed(recipe, after=2), setup)
    written = []
    for step in range(4):
        own.replaced(batches_of(setup, own, step), step)
        written.append(own.counts["written"])
    assert written[:2] == [0, 0]
    assert min(written[2:]) > 0


def test_an_empty_answer_falls_back_and_is_counted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, setup = case
    own = on_policy_of(recipe, setup, world=2)
    dealt = batches_of(setup, own, 0)
    words = [20, 21, END]

    def write(self: Any, records: list[Record], numbers: Any) -> list[list[int]]:
        return [[END] if place == 0 else [30] * 12 if place == 1 else words for place in range(len(records))]

    monkeypatch.setattr(StudentAnswers, "write", write)
    (batch,) = own.replaced(dealt, 0)
    found, names = answers([batch]), sorted(dealt[0].ids)
    assert found == {names[0]: given(setup)[names[0]], names[1]: [30] * 12, names[2]: words, names[3]: words}
    own_rows = [name != names[0] for name in batch.ids for _ in found[name]]
    assert written_rows(batch).tolist() == own_rows
    figures = own.figures(lambda values: [2 * value for value in values])  # of two processes
    expected = {"written": 6, "replayed": 0, "kept": 2, "cut": 2, "tokens": 38, "threshold": 1.0}
    assert figures == {f"on_policy_{name}": value for name, value in expected.items()}


RUNS: list[dict[str, Any]] = [
    {"sampler": "mixed", "share": 0.7, "draw": "sample"},
    {"sampler": "mixed", "share": 0.7, "replay": {"capacity": 6}},
    {
        "sampler": "adaptive",
        "draw": "sample",
        "adaptive": {"start": 0.6, "rise": 0.2},
        "replay": {"capacity": 4},
    },
]


@pytest.mark.parametrize("spec", RUNS)
def test_a_killed_run_goes_on_to_the_same_bits(folder: Path, language_model: Path, spec: dict[str, Any]) -> None:
    recipe = recipe_for(folder, language_model, on_policy=spec)
    whole = SmallRun(recipe)
    whole.go(5)
    file = io.BytesIO()
    torch.save(whole.state(), file)
    whole.go(4)
    file.seek(0)
    resumed = SmallRun(recipe)
    resumed.load(torch.load(file, weights_only=True), 5)
    resumed.go(4)
    assert resumed.seen == whole.seen[5:]
    assert resumed.figures == whole.figures[5:]
    for name, tensor in whole.setup.student.state_dict().items():
        assert torch.equal(resumed.setup.student.state_dict()[name], tensor), name
    if "replay" in spec:
        assert sum(figures["on_policy_replayed"] for figures in whole.figures) > 3
    if spec["sampler"] == "adaptive":
        assert whole.figures[-1]["on_policy_threshold"] > 0.6


def test_a_replayed_answer_comes_with_its_own_question(case: Case) -> None:
    recipe, setup = case
    own = on_policy_of(changed(recipe, replay=recipe.on_policy.replay.model_copy(update={"capacity": 50})), setup)
    kept: list[tuple[str, list[int]]] = []
    for step in range(6):
        batches = own.replaced(batches_of(setup, own, step), step)
        state = own.replay.state_dict()
        pieces, places = state["ids"].split(state["lengths"].tolist()), state["places"].tolist()
        names = [setup.train.records[place].id for place in places]
        kept = [(name, ids.tolist()) for name, ids in zip(names, pieces, strict=True)]
        for name, ids in answers(batches).items():
            assert (name, ids) in kept
    assert len(kept) > 4
    assert own.counts["replayed"] == 4


def test_a_picture_that_is_gone_gives_no_pair(case: Case, tmp_path: Path) -> None:
    _, setup = case
    assert setup.processor.images is not None
    cut = replace(setup.processor.images, spec=ImagesSpec(tiling="dynamic", style="internvl"))
    sized = Processor(setup.processor.tokenizer, setup.processor.template, cut)
    pairs = WrittenPairs(Pairer(sized, sized, 512), 260, (END, END))
    record = next(record for record in setup.train.records if record.images)
    assert pairs.pair(record, [20, END]) is not None
    assert pairs.pair(replace(record, images=(tmp_path / "gone.png",)), [20, END]) is None
