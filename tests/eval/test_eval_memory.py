"""When memory runs out the batch is halved and stays so; a single item that does not fit is told."""

from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval.memory import is_out_of_memory
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, sees_colour, small_task, without_speed


@pytest.mark.parametrize(
    ("memory", "batch_size", "tried"),
    [
        (10, 10, [10]),
        (4, 8, [8, 4, 4, 2]),
        (3, 10, [10, 5, 2, 2, 2, 2, 2]),
        (1, 3, [3, *[1] * 10]),
        (4, 1000, [10, 5, 2, 2, 2, 2, 2]),  # half of what was tried, not of what was asked for
    ],
)
def test_the_batch_is_halved_and_stays_so(tmp_path: Path, memory: int, batch_size: int, tried: list[int]) -> None:
    task = small_task(tmp_path)
    model = FakeModel(sees_colour, memory=memory)
    evaluate(model, [task], output_dir=tmp_path / "out", batch_size=batch_size)
    assert model.tried == tried
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "roomy", batch_size=batch_size)
    small, roomy = (without_speed(tmp_path / name / "small.result.json") for name in ("out", "roomy"))
    assert small == roomy
    assert small["value"] == 1.0


def test_a_single_item_that_does_not_fit_is_told(tmp_path: Path) -> None:
    model = FakeModel(memory=0)
    with pytest.raises(UserError, match=r"task 'small': out of memory with the single item 'q0'.*max_new_tokens \(4\)"):
        evaluate(model, [small_task(tmp_path)], output_dir=tmp_path / "out", batch_size=4)
    assert model.tried == [4, 2, 1]


def test_other_errors_of_a_model_come_through(tmp_path: Path) -> None:
    def fails(request: object) -> str:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        evaluate(FakeModel(fails), [small_task(tmp_path)], output_dir=tmp_path / "out")


def test_the_errors_of_torch_are_known() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("Tried to allocate"))
    # What torch really raises on a CPU.
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
