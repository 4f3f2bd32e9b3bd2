"""Row functions: values against a direct fp64 formula, gradients against finite differences and autograd."""

import math

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import cross_entropy, forward_kl, reverse_kl


def logits(rows: int = 5, vocabulary: int = 7, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64) * scale


def test_values_are_the_textbook_formulas() -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    labels = torch.tensor([0, 6, 3, 3, 1])
    q, p = student.softmax(-1), teacher.softmax(-1)
    torch.testing.assert_close(forward_kl(student, teacher), (p * (p / q).log()).sum(-1))
    torch.testing.assert_close(reverse_kl(student, teacher), (q * (q / p).log()).sum(-1))
    torch.testing.assert_close(cross_entropy(student, labels), -q[range(5), labels].log())


@pytest.mark.parametrize("function", [forward_kl, reverse_kl])
def test_zero_for_equal_models_and_no_gradient_to_the_teacher(function) -> None:
    student = logits().requires_grad_()
    teacher = logits(seed=3).requires_grad_()
    assert function(student, student.detach()).abs().max() < 1e-15
    assert (function(student, teacher) > 0.01).all()
    function(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_gradients_agree_with_finite_differences() -> None:
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=4)
    labels = torch.tensor([0, 3, 2])
    assert torch.autograd.gradcheck(lambda z: forward_kl(z, teacher), student)
    assert torch.autograd.gradcheck(lambda z: reverse_kl(z, teacher), student)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, labels), student)


def test_forward_kl_gradient_is_student_minus_teacher() -> None:
    student, teacher = logits().requires_grad_(), logits(seed=5)
    (gradient,) = torch.autograd.grad(forward_kl(student, teacher).sum(), student)
    torch.testing.assert_close(gradient, student.detach().softmax(-1) - teacher.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_upcast_before_anything(dtype: torch.dtype) -> None:
    student, teacher = logits(vocabulary=300).to(dtype), logits(vocabulary=300, seed=6).to(dtype)
    labels = torch.arange(5)
    for function, other in ((forward_kl, teacher), (reverse_kl, teacher), (cross_entropy, labels)):
        value = function(student, other)
        assert value.dtype == torch.float32
        exact = function(student.double(), other if other is labels else other.double())
        assert exact.dtype == torch.float64
        # fp32 arithmetic on these inputs is good to 1e-6; half-precision arithmetic would be off by 1e-3.
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)


def test_an_impossible_token_of_the_teacher_counts_nothing() -> None:
    student, teacher = logits().requires_grad_(), logits(seed=7)
    teacher[:, 2] = -math.inf
    loss = forward_kl(student, teacher)
    p = teacher.softmax(-1)
    expected = torch.where(p > 0, p * (p.log() - student.detach().log_softmax(-1)), 0.0).sum(-1)
    torch.testing.assert_close(loss.detach(), expected)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    torch.testing.assert_close(gradient, student.detach().softmax(-1) - p)


def test_a_token_impossible_for_both_drops_out() -> None:
    student, teacher = logits(), logits(seed=8)
    student[:, 2] = teacher[:, 2] = -math.inf
    keep = [0, 1, 3, 4, 5, 6]
    student.requires_grad_()
    for function in (forward_kl, reverse_kl):
        loss = function(student, teacher)
        torch.testing.assert_close(loss, function(student[:, keep], teacher[:, keep]))
        (gradient,) = torch.autograd.grad(loss.sum(), student)
        assert gradient.isfinite().all()
        assert (gradient[:, 2] == 0).all()


def test_a_token_the_student_rules_out_costs_infinity() -> None:
    student, teacher = logits(), logits(seed=9)
    student[0, 2] = -math.inf
    loss = forward_kl(student, teacher)
    assert loss[0] == math.inf
    assert loss[1:].isfinite().all()
    assert cross_entropy(student, torch.full((5,), 2))[0] == math.inf


def test_bad_logits_are_not_hidden() -> None:
    student, teacher = logits(), logits(seed=10)
    student[1, 1] = math.nan
    for function in (forward_kl, reverse_kl):
        assert function(student, teacher).isnan().tolist() == [False, True, False, False, False]
        assert function(teacher, student).isnan().tolist() == [False, True, False, False, False]


def test_a_common_offset_costs_no_digits() -> None:
    student, teacher = logits().float(), logits(seed=11).float()
    # 2**14 leaves 2**-9 as the last digit; snap first, so that the shift itself loses nothing.
    student, teacher = ((z * 256).round() / 256 for z in (student, teacher))
    shifted = [z + 2.0**14 for z in (student, teacher)]
    assert torch.equal(forward_kl(*shifted), forward_kl(student, teacher))
    labels = torch.arange(5)
    assert torch.equal(cross_entropy(shifted[0], labels), cross_entropy(student, labels))


def test_no_rows_give_no_values() -> None:
    empty = torch.zeros(0, 7)
    assert forward_kl(empty, empty).shape == (0,)
    assert cross_entropy(empty, torch.zeros(0, dtype=torch.long)).shape == (0,)


@pytest.mark.parametrize("function", [forward_kl, reverse_kl])
def test_different_shapes_are_refused(function) -> None:
    with pytest.raises(UserError, match=r"\[5, 7\].*\[5, 8\].*shared prefix"):
        function(logits(), logits(vocabulary=8))
    with pytest.raises(UserError, match=r"\[1, 7\]"):  # would broadcast
        function(logits(), logits(rows=1))


def test_bad_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"span -100 to 3, expected 0 to 6"):
        cross_entropy(logits(), torch.tensor([0, 1, -100, 2, 3]))
    with pytest.raises(UserError, match=r"span 0 to 7, expected 0 to 6"):
        cross_entropy(logits(), torch.tensor([0, 1, 7, 2, 3]))
    with pytest.raises(UserError, match=r"shape \[4\], expected \[5\]"):
        cross_entropy(logits(), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(UserError, match=r"float32, expected integers"):
        cross_entropy(logits(), torch.zeros(5))
