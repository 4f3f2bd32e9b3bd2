"""How many rows are worked on at once."""

from unittest.mock import patch

import pytest
import torch

from taid_vlm.losses import LossSpec
from taid_vlm.losses.chunks import plan, usual_bytes
from taid_vlm.losses.inputs import Head, LossInputs, check_inputs


def inputs(rows: int, vocabulary: int) -> LossInputs:
    student, teacher = (Head(torch.randn(rows, 2), torch.randn(vocabulary, 2)) for _ in range(2))
    labels = torch.zeros(rows, dtype=torch.long)
    return check_inputs(student, teacher, labels, None, LossSpec.of("taid"), 0.5)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("vocabulary", [1000, 49152, 151936])
def test_every_thread_has_the_same_rows_of_a_tile(threads: int, vocabulary: int) -> None:
    given = inputs(64, vocabulary)
    with patch("torch.get_num_threads", return_value=threads):
        chunk_rows, tile_rows = plan(given, torch.float32, usual_bytes(given))
    assert tile_rows % threads == 0 or tile_rows == chunk_rows
    assert tile_rows <= chunk_rows <= 64


def test_a_budget_counts_more_than_threads() -> None:
    given = inputs(64, 49152)
    with patch("torch.get_num_threads", return_value=8):
        assert plan(given, torch.float32, 1) == (1, 1)
        _, tile_rows = plan(
            given, torch.float32, 12 * 4 * 4 * 49152 * 3
        )  # three rows of twelve buffers in a quarter of it
    assert tile_rows == 3
