"""Which sample comes when: once per epoch, the same on any number of processes, and after a resume."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.data import Pairer, PreparedRecords, StepOrder, make_loader, read_records
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.schema import DataSource
from tests.tiny.data import write_easy_vqa
from tests.tiny.language_model import tiny_tokenizer


def flat(
    size: int, batch: int, micro: int = 1, seed: int = 0, first: int = 0, last: int = 9, **where: int
) -> list[int]:
    order = StepOrder(size, batch, micro, seed, first, last, **where)
    found = list(order)
    assert len(found) == len(order)
    assert all(len(one) == micro for one in found)
    return [index for one in found for index in one]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 5))
def test_every_epoch_has_every_sample_once(size: int, batch: int, seed: int) -> None:
    steps = -(-3 * size // batch)
    seen = flat(size, batch, seed=seed, last=steps)
    for epoch in range(3):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_and_seeds_differ() -> None:
    seen = flat(32, 4, last=16)
    assert seen[:32] != seen[32:]
    assert seen[:32] != list(range(32))
    assert seen != flat(32, 4, seed=1, last=16)
    assert seen == flat(32, 4, last=16)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 9))
def test_a_resumed_order_is_the_rest_of_the_whole(size: int, batch: int, at: int) -> None:
    assert flat(size, batch, first=at) == flat(size, batch)[at * batch :]


@pytest.mark.parametrize(("world", "micro"), [(1, 2), (2, 1), (2, 3), (3, 2), (6, 1)])
def test_processes_and_micro_batches_share_out_the_same_steps(world: int, micro: int) -> None:
    size, batch = 11, 6
    whole = flat(size, batch)
    shares = [flat(size, batch, micro, rank=rank, world=world) for rank in range(world)]
    part = batch // world
    joined = [i for step in range(9) for share in shares for i in share[step * part : (step + 1) * part]]
    assert joined == whole


def test_a_batch_that_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size 4 cannot be dealt to 3 processes"):
        StepOrder(10, 4, 1, 0, 0, 1, 0, 3)


def looks() -> Processor:
    image = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    return Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<empty_output>", 2, image))


def prepared(root: Path, skip_bad: bool) -> PreparedRecords:
    write_easy_vqa(root, train=4)
    broken = root / "easy_vqa" / "data" / "train" / "images" / "1.png"
    broken.write_bytes(broken.read_bytes()[:30])
    records = read_records([DataSource(kind="easy_vqa", path=str(root))], 0)
    return PreparedRecords(records, Pairer(looks(), None, 128), skip_bad, decode_pictures=True)


def test_a_bad_picture_is_refused_by_name_or_skipped_and_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1\.png.*on_bad_sample: skip"):
        list(make_loader(prepared(tmp_path / "refuse", False), [[0, 1], [2, 3]], 0))
    batches = list(make_loader(prepared(tmp_path / "skip", True), [[0, 1], [2, 3]], 0))
    assert [len(batch.ids) for batch in batches] == [1, 2]
    assert [len(batch.pictures) for batch in batches] == [1, 2]
    assert [len(batch.dropped) for batch in batches] == [1, 0]
    assert "1.png" in batches[0].dropped[0]


def test_workers_that_are_not_forked_can_be_given_the_loader_s_parts() -> None:
    made = PreparedRecords([], Pairer(looks(), None, 64), True, True)
    loader = make_loader(made, [[0]], 5)
    join = pickle.loads(pickle.dumps(loader.collate_fn))
    assert join(["gone"]).student.input_ids.tolist() == [[5]]
    assert len(pickle.loads(pickle.dumps(made))) == 0
