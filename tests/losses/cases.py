"""Arguments of ``distillation_loss`` and comparisons of its two forms, for the tests of this folder."""

import math
from typing import Any

import torch

from taid_vlm.losses import LossOutput, distillation_loss


def case(
    rows: int = 13,
    vocabulary: int = 11,
    teacher_vocabulary: int | None = None,
    *,
    width: int = 6,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Arguments of ``distillation_loss``: leaves that require gradients on both sides."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int, factor: float = 1.0) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * factor
        return values.to(dtype).requires_grad_()

    others = teacher_vocabulary or vocabulary
    arguments = {
        "student_hidden_NH": leaf(rows, width),
        "student_head_VH": leaf(vocabulary, width, factor=scale),
        "labels_N": torch.randint(0, vocabulary, (rows,), generator=generator),
        "teacher_hidden_ND": leaf(rows, width + 3),
        "teacher_head_UD": leaf(others, width + 3, factor=scale),
    }
    if bias:
        arguments |= {"student_bias": leaf(vocabulary), "teacher_bias": leaf(others)}
    return arguments


STUDENT = ("student_hidden_NH", "student_head_VH", "student_bias")


def rows_per_chunk(rows: int, vocabulary: int, shared: int = 0, itemsize: int = 8) -> int:
    """The byte budget that makes chunks of so many rows: three quarters of it hold the logits of both models."""
    return math.ceil(rows * (vocabulary + (shared or vocabulary)) * itemsize / 0.75)


def without_teacher(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if not name.startswith("teacher")}


def gradients(output: LossOutput, arguments: dict[str, Any], factor: float = 1.0) -> dict[str, torch.Tensor]:
    names = [name for name in STUDENT if name in arguments]
    found = torch.autograd.grad(output.loss * factor, [arguments[n] for n in names], retain_graph=True)
    return dict(zip(names, found, strict=True))


def both(arguments: dict[str, Any], **options: Any) -> tuple[LossOutput, LossOutput]:
    fused = distillation_loss(**arguments, implementation="fused", **options)
    plain_options = {name: value for name, value in options.items() if name != "chunk_bytes"}
    return fused, distillation_loss(**arguments, implementation="plain", **plain_options)


def assert_equal_outputs(
    fused: LossOutput, plain: LossOutput, arguments: dict[str, Any], skip: tuple[str, ...] = (), **tolerance: Any
) -> None:
    assert fused.rows == plain.rows == len(arguments["labels_N"])
    assert fused.sums.keys() == plain.sums.keys()
    assert not any(value.requires_grad for value in [*fused.sums.values(), *plain.sums.values()])
    torch.testing.assert_close(fused.loss, plain.loss, equal_nan=True, **tolerance)
    for name in plain.sums.keys() - set(skip):
        torch.testing.assert_close(
            fused.sums[name], plain.sums[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance
        )
    theirs = gradients(plain, arguments, 0.37)
    for name, ours in gradients(fused, arguments, 0.37).items():
        assert ours.dtype == theirs[name].dtype == arguments[name].dtype
        torch.testing.assert_close(ours, theirs[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)
