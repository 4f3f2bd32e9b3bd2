"""Which sample comes when: once per epoch, the same on any number of processes, and after a resume."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.data import Join, Pairer, PreparedRecords, Record, StepOrder, make_loader, open_image, read_records
from taid_vlm.data.packing import Packing
from taid_vlm.data.record import Broken
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.data_spec import DataSource
from tests.tiny.data import write_easy_vqa
from tests.tiny.language_model import tiny_tokenizer


def flat(
    size: int, batch: int, micro: int = 1, seed: int = 0, first: int = 0, last: int = 9, **where: Any
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
    (dropped,) = batches[0].dropped
    assert dropped.reason == "broken picture"
    assert "1.png" in dropped.message


def test_workers_that_are_not_forked_can_be_given_the_loader_s_parts() -> None:
    made = PreparedRecords([], Pairer(looks(), None, 64), True, True)
    loader = make_loader(made, [[0]], Join(5, Packing(64), looks()))
    join = pickle.loads(pickle.dumps(loader.collate_fn))
    assert join([Broken("broken picture", "gone")]).student.input_ids.tolist() == [[5]]
    assert len(pickle.loads(pickle.dumps(made))) == 0


def test_pictures_of_packed_samples_follow_the_order_of_their_placeholders(tmp_path: Path) -> None:
    root = write_easy_vqa(tmp_path, train=6)
    picture = {i: root / "easy_vqa" / "data" / "train" / "images" / f"{i}.png" for i in range(6)}
    records = []
    for i in range(6):
        words: list[dict[str, Any]] = [{"type": "text", "text": "a" * (17 * i % 40)}, {"type": "image"}]
        said: list[dict[str, Any]] = [{"role": "user", "content": words}, {"role": "assistant", "content": f"{i}"}]
        records.append(Record(str(i), said, (picture[i],)))
    made = PreparedRecords(records, Pairer(looks(), looks(), 256), False, decode_pictures=True)
    (batch,) = make_loader(made, [list(range(6))], Join(2, Packing(160, 160)))
    assert batch.teacher is not None
    assert batch.ids != [str(i) for i in range(6)]
    assert batch.picture_keys == [picture[int(name)] for name in batch.ids]
    assert len(batch.pictures) == 6
    # The digit that follows each picture's two placeholders, read off the rows themselves.
    tokenizer = looks().tokenizer
    for side in (batch.student, batch.teacher):
        assert 1 < len(side.input_ids) < 6
        text = tokenizer.decode(side.input_ids.flatten()[side.attention_mask.flatten().bool()].tolist())
        after = [part.split("assistant\n")[1][0] for part in text.split("<empty_output>" * 2)[1:]]
        assert after == batch.ids
        assert side.input_ids.flatten()[side.rows + 1].tolist() == batch.labels.tolist()


def test_lengths_are_looked_up_or_rendered_and_a_bad_sample_has_none(tmp_path: Path) -> None:
    made = prepared(tmp_path, True)
    whole = len(made.pairer.pair(made.records[0]).student.ids)
    assert made.length(0) == whole
    made.lengths[made.records[0].id] = 7
    assert made.length(0) == 7
    made.pairer.max_length = 3
    assert made.length(1) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_prepare_the_same_batches(tmp_path: Path, workers: int) -> None:
    records = read_records([DataSource(kind="easy_vqa", path=str(write_easy_vqa(tmp_path, train=8)))], 0)
    made = PreparedRecords(records, Pairer(looks(), None, 128), False, decode_pictures=True)
    order = StepOrder(8, 4, 2, 0, 0, 4, batching="packed", length=made.length)
    found = list(make_loader(made, order, Join(2, Packing(128), looks(), False), workers, prefetch=3))
    assert [sorted(batch.ids) for batch in found] == [sorted(records[i].id for i in some) for some in order]
    assert all(batch.student.position_ids is not None for batch in found)
    for batch in found:
        assert batch.pictures == []
        assert batch.student.tiles == (1, 1)
        expected = looks().pixel_values([open_image(key) for key in batch.picture_keys])
        assert torch.equal(batch.student.pixel_values, expected)
