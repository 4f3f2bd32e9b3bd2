"""Which answers are the student's, what becomes of ids that it wrote, and what is kept of them."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.tensor import distribute_tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.chat_template import template_text
from taid_vlm.recipe import load_recipe
from taid_vlm.recipe.on_policy import OnPolicySpec
from taid_vlm.training.on_policy import OnPolicy
from taid_vlm.training.on_policy.pairs import WrittenPairs
from taid_vlm.training.on_policy.random import generator_for, uniform
from taid_vlm.training.on_policy.replacing import COUNTED
from taid_vlm.training.on_policy.replay import ReplayBuffer, Written
from taid_vlm.training.on_policy.samplers import BOTH, DATASET, FRESH, REPLAYED, SAMPLERS, Adaptive, Mixed
from taid_vlm.training.setup import Setup
from tests.training.on_policy_cases import CONTROL, CPU, END, PLACEHOLDER, UNKNOWN, recipe_for, setup_of

WORDS = [20, 21, 22]


def adaptive(**changes: Any) -> Adaptive:
    spec = OnPolicySpec.model_validate({"sampler": "adaptive", "adaptive": changes})
    sampler = SAMPLERS.get("adaptive")(spec)
    assert isinstance(sampler, Adaptive)
    return sampler


def test_the_threshold_follows_the_held_out_loss_as_by_hand() -> None:
    sampler = adaptive(start=0.2, rise=0.3, tolerance=0.1)
    assert sampler.needs_baseline
    path = []
    #        baseline, below, within the tolerance, risen, compared anew, risen from 2.2, nonsense, risen, beyond 1
    for loss in [2.0, 1.5, 2.05, 2.2, 2.25, 2.4, float("nan"), 9.0, 20.0]:
        sampler.validated(loss)
        path.append(round(sampler.threshold, 6))
    assert path == [0.2, 0.2, 0.2, 0.5, 0.5, 0.8, 0.8, 1.0, 1.0]
    assert not sampler.needs_baseline
    again = adaptive(start=0.2, rise=0.3, tolerance=0.1)
    again.load_state_dict(sampler.state_dict())
    assert again.threshold == sampler.threshold
    assert again.state_dict() == sampler.state_dict()


def test_ten_rises_of_a_tenth_are_a_whole() -> None:
    sampler = adaptive(tolerance=0.0)
    for loss in range(11):
        assert sampler.threshold == pytest.approx(max(0, loss - 1) / 10)
        sampler.validated(float(loss))
    assert sampler.threshold == 1.0


@given(number=st.floats(0, 1, exclude_max=True), done=st.floats(0, 1), full=st.booleans(), start=st.floats(0, 1))
def test_adaptive_writes_while_the_buffer_fills_and_less_and_less(
    number: float, done: float, full: bool, start: float
) -> None:
    choice = adaptive(start=start).choose(number, done, full)
    assert (choice == DATASET) == (number >= start)
    if number < start:
        assert choice == (REPLAYED if full and number >= start * (1 - done) else FRESH)


@pytest.mark.parametrize(("capacity", "own"), [(None, FRESH), (0, FRESH), (5, BOTH)])
def test_mixed_with_a_buffer_learns_from_the_buffer(capacity: int | None, own: Any) -> None:
    sampler = Mixed(OnPolicySpec.model_validate({"sampler": "mixed", "share": 0.3, "replay": {"capacity": capacity}}))
    assert [sampler.choose(number, 0.5, True) for number in (0.0, 0.29, 0.3, 0.9)] == [own, own, DATASET, DATASET]


def test_a_share_is_met_within_binomial_bounds() -> None:
    sampler = SAMPLERS.get("mixed")(OnPolicySpec(sampler="mixed", share=0.3))
    count = 4000
    own = sum(sampler.choose(float(uniform(1, 7, step, "choice", "r1")), 0, False).writes for step in range(count))
    assert abs(own - 0.3 * count) < 4 * (count * 0.3 * 0.7) ** 0.5


def test_numbers_depend_on_their_key_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(uniform(5, 1, 2, "a"), uniform(5, 1, 2, "a"))
    assert torch.equal(torch.get_rng_state(), before)
    keys: list[tuple[int | str, ...]] = [(1, 2, "a"), (1, 2, "b"), (2, 1, "a"), (12, "a"), (1, "2", "a")]
    assert len({tuple(uniform(3, *key).tolist()) for key in keys}) == len(keys)


@given(capacity=st.integers(1, 6), count=st.integers(0, 20), wanted=st.integers(0, 12))
def test_the_buffer_keeps_the_newest_and_draws_none_twice_before_all(capacity: int, count: int, wanted: int) -> None:
    buffer, expected = ReplayBuffer(capacity), deque[Written](maxlen=capacity)
    for index in range(count):
        written = Written(index, list(range(index)))
        buffer.add(written)
        expected.append(written)
    assert buffer.full == (count >= capacity)
    drawn = buffer.draw(wanted, generator_for(1))
    assert drawn == buffer.draw(wanted, generator_for(1))
    assert len(drawn) == (wanted if count else 0)
    assert {written.place for written in drawn} <= {written.place for written in expected}
    times = [sum(other == written for other in drawn) for written in expected]
    assert not times or max(times) - min(times) <= 1
    copy = ReplayBuffer(capacity)
    copy.add(Written(99, [1]))
    copy.load_state_dict(buffer.state_dict())
    assert len(copy) == len(expected)
    assert copy.draw(wanted, generator_for(2)) == buffer.draw(wanted, generator_for(2))


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> dict[bool, Setup]:
    folder = tmp_path_factory.mktemp("pairs")
    return {pictures: setup_of(recipe_for(folder, language_model, pictures)) for pictures in (True, False)}


def pairs_of(setup: Setup) -> WrittenPairs:
    assert setup.vocabulary == 260
    return WrittenPairs(setup.train.pairer, setup.vocabulary, (END, END))


@pytest.mark.parametrize("pictures", [True, False])
def test_both_models_read_the_ids_that_the_student_wrote(setups: dict[bool, Setup], pictures: bool) -> None:
    setup = setups[pictures]
    lengths = set()
    # Ids that decode to other ids than themselves: a byte that is no character, and the letters of a control token.
    typed = setup.processor.tokenizer.encode("<", add_special_tokens=False)
    ids = [230, *typed, 20, 230, END]
    decoded = setup.processor.tokenizer.decode(ids[:-1])
    assert setup.processor.tokenizer.encode(decoded, add_special_tokens=False) != ids[:-1]
    for record in setup.train.records:
        pair, given = pairs_of(setup).pair(record, ids), setup.train.pairer.pair(record)
        assert pair is not None
        assert pair.teacher is not None
        assert given.teacher is not None
        assert pair.student_written
        assert pair.labels == ids
        for side, whole in ((pair.student, given.student), (pair.teacher, given.teacher)):
            assert side.ids[side.rows[0] + 1 :] == ids
            assert [side.ids[row + 1] for row in side.rows] == ids
            # The question is that of the given answer, whose last turn begins at the same place.
            assert whole.ids[: side.rows[0] + 1] == side.ids[: side.rows[0] + 1]
            assert side.rows[0] in whole.rows
        lengths.add(len(pair.teacher.ids) - len(pair.student.ids))
    assert lengths == ({0, 5} if pictures else {0})


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([*WORDS, END], [*WORDS, END]),  # the end is kept as the last label
        (WORDS, WORDS),  # cut: no end is invented
        ([*WORDS, END, END, END], [*WORDS, END]),  # padding
        ([*WORDS, CONTROL, 30, END], [*WORDS, CONTROL]),  # nothing is an answer after another turn begins
        ([*WORDS, PLACEHOLDER, 30], [*WORDS, PLACEHOLDER]),
        ([*WORDS, UNKNOWN, 30], [*WORDS, UNKNOWN]),
        ([END], None),
        ([PLACEHOLDER, 20], None),
        ([], None),
    ],
)
def test_an_answer_goes_to_the_first_token_after_which_there_is_none(
    setups: dict[bool, Setup], ids: list[int], expected: list[int] | None
) -> None:
    setup = setups[True]
    pair = pairs_of(setup).pair(setup.train.records[1], ids)
    assert (pair and pair.labels) == expected
    if pair is not None:
        given = setup.train.pairer.pair(setup.train.records[1])
        # The model never reads what it cannot: a placeholder without a picture, an id that the teacher does not have.
        assert pair.student.ids.count(PLACEHOLDER) == given.student.ids.count(PLACEHOLDER)
        assert UNKNOWN not in pair.student.ids
        # Each row has a next token to read, for a teacher that tells probabilities of what it has read.
        assert pair.student.ids[pair.student.rows[0] + 1 : -1] == expected[:-1] if expected else False
        assert len(pair.student.ids) == pair.student.rows[-1] + 2


def test_an_answer_beyond_max_length_is_cut_without_an_end(setups: dict[bool, Setup]) -> None:
    setup = setups[True]
    record = setup.train.records[1]
    ids = [20 + place % 50 for place in range(300)]
    pair = pairs_of(setup).pair(record, [*ids, END])
    assert pair is not None
    assert pair.teacher is not None
    assert pair.labels == ids[: len(pair.labels)]
    longest = max(len(pair.student.ids), len(pair.teacher.ids))
    assert longest == setup.train.pairer.max_length


def test_where_turns_end_differently_the_words_are_paired(tmp_path: Path, language_model: Path) -> None:
    template = template_text("chatml")
    other = tmp_path / "other.jinja"
    other.write_text(template.replace("'<|im_end|>'", "'<|endoftext|>'").replace("<|im_end|>", "<|endoftext|>"))
    teacher = {"checkpoint": None, "language_model": {"source": str(language_model)}, "chat_template": str(other)}
    setup = setup_of(recipe_for(tmp_path, language_model, pictures=False, teacher=teacher))
    assert setup.train.pairer.ends_differ
    pairs = WrittenPairs(setup.train.pairer, 260, (END, 0))
    for ids in ([*WORDS, END], [*WORDS, 0], WORDS):
        pair = pairs.pair(setup.train.records[0], ids)
        assert pair is not None
        assert pair.labels == WORDS


def test_the_page_shows_every_key_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "on-policy.md").read_text()
    shown = yaml.safe_load(page.split("```yaml")[1].split("```")[0])["on_policy"]
    usual = OnPolicySpec().model_dump() | {"sampler": "mixed", "replay": {"capacity": 0}}
    assert shown == usual
    for name in COUNTED:
        assert f"`on_policy_{name}`" in page


def test_a_student_in_shards_is_refused(setups: dict[bool, Setup], tmp_path: Path, language_model: Path) -> None:
    recipe, student = recipe_for(tmp_path, language_model, pictures=False), setups[False].student
    whole = student.head.weight
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        student.head.weight = torch.nn.Parameter(distribute_tensor(whole.detach(), mesh))
        with pytest.raises(UserError, match=r"does not work with a student in shards \(FSDP2\)"):
            OnPolicy.of(recipe, setups[False], CPU)
    finally:
        torch.distributed.destroy_process_group()
        student.head.weight = whole
    assert OnPolicy.of(recipe, setups[False], CPU) is not None


@pytest.mark.parametrize(("name", "loss", "capacity"), [("gkd", "jsd", 0), ("distillm", "srkl", 1000)])
def test_the_shipped_recipes_are_their_papers(name: str, loss: str, capacity: int) -> None:
    recipe = load_recipe(f"quickstart/{name}")
    assert (recipe.loss.name, recipe.on_policy.capacity) == (loss, capacity)
    assert (recipe.on_policy.temperature, recipe.on_policy.top_p, recipe.on_policy.top_k) == (1.0, 1.0, 0)
