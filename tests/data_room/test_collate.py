"""Padding moves nothing: every row still points at the token before its label."""

from pathlib import Path

import torch
from PIL import Image

from taid_vlm.data.collate import collate, dropped_by_reason, pack_sides, pad_sides
from taid_vlm.data.pairing import Pair, Side
from taid_vlm.data.record import REASONS, Broken

PAD = 9
GONE, CUT = Broken("picture not found", "x.png is gone"), Broken("broken picture", "y.png is cut")


def pair(name: str, student: Side, teacher: Side | None) -> Pair:
    return Pair(name, [student.ids[row + 1] for row in student.rows], student, teacher, (Path(f"{name}.png"),))


SHORT = pair("short", Side([1, 2, 3], [1]), Side([5, 1, 2, 3], [2]))
LONG = pair("long", Side([4, PAD, 6, 7, PAD], [0, 3]), Side([4, 0, 0, 0, 0, PAD, 6, PAD], [4, 6]))


def test_rows_point_before_their_labels_on_both_sides() -> None:
    batch = collate([SHORT, LONG], [Image.new("RGB", (1, 1))], PAD, [GONE])
    assert batch.teacher is not None
    assert batch.labels.tolist() == [3, PAD, PAD]
    for side in (batch.student, batch.teacher):
        assert side.input_ids.flatten()[side.rows + 1].tolist() == batch.labels.tolist()
    assert (batch.ids, batch.dropped) == (["short", "long"], [GONE])
    assert batch.picture_keys == [Path("short.png"), Path("long.png")]


def test_padding_is_on_the_right_and_never_attended() -> None:
    side = pad_sides([SHORT.student, LONG.student], PAD)
    assert side.input_ids.tolist() == [[1, 2, 3, PAD, PAD], [4, PAD, 6, 7, PAD]]
    # The padding id inside a sequence is a token like any other.
    assert side.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_without_a_teacher_there_is_no_teacher_side() -> None:
    alone = Pair("alone", SHORT.labels, SHORT.student, None, ())
    assert collate([alone], [], PAD, []).teacher is None


def test_a_batch_of_dropped_samples_is_one_padding_token_without_rows() -> None:
    batch = collate([], [], PAD, [GONE, CUT])
    assert batch.student.input_ids.tolist() == [[PAD]]
    assert batch.student.attention_mask.tolist() == [[1]]
    assert batch.student.rows.numel() == batch.labels.numel() == 0
    assert batch.labels.dtype == batch.student.rows.dtype == torch.long
    assert batch.dropped == [GONE, CUT]


def test_dropped_samples_are_counted_by_reason() -> None:
    batches = [collate([], [], PAD, some) for some in ([GONE, CUT], [], [CUT])]
    counted = dict(zip(REASONS, dropped_by_reason(batches), strict=True))
    assert {reason: count for reason, count in counted.items() if count} == {
        "picture not found": 1,
        "broken picture": 2,
    }


def test_packed_rows_begin_again_and_point_before_their_labels() -> None:
    pairs = [SHORT, LONG, SHORT]
    batch = collate(pairs, [], PAD, [], [2, 1], [1, 2])
    assert batch.teacher is not None
    assert batch.student.position_ids is not None
    assert batch.student.input_ids.tolist() == [[1, 2, 3, 4, PAD, 6, 7, PAD], [1, 2, 3, *[PAD] * 5]]
    assert batch.student.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, 2, 0, 1, 2, 3, 4]]
    assert batch.student.attention_mask.tolist() == [[1] * 8, [1, 1, 1, *[0] * 5]]
    assert batch.labels.tolist() == [3, PAD, PAD, 3]
    for side in (batch.student, batch.teacher):
        assert side.input_ids.flatten()[side.rows + 1].tolist() == batch.labels.tolist()
    assert batch.teacher.input_ids.shape == (2, 12)


def test_a_teacher_may_keep_a_sample_to_a_row() -> None:
    batch = collate([SHORT, LONG], [], PAD, [], [2], None)
    assert batch.teacher is not None
    assert batch.teacher.position_ids is None
    assert batch.teacher.input_ids.shape == (2, 8)
    assert batch.student.input_ids.shape == (1, 8)


def test_no_samples_to_pack_are_one_padding_token_without_rows() -> None:
    side = pack_sides([], [], PAD)
    assert (side.input_ids.tolist(), side.attention_mask.tolist()) == ([[PAD]], [[1]])
    assert side.position_ids is not None
    assert side.position_ids.tolist() == [[0]]
    assert side.rows.numel() == 0
