"""The TAID target and loss: the authors' code on fixed inputs, and the properties the method is known by."""

import math

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import forward_kl, reverse_kl, taid, taid_cross_entropy, taid_target_logits
from tests.losses.golden import GOLDEN, golden_inputs

TS = (0.0, 0.1, 0.4, 0.73, 1.0)


def logits(seed: int, rows: int = 4, vocabulary: int = 9, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64) * scale


def gradient_of(loss: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss.sum(), student)[0]


@pytest.mark.parametrize("case", [c for c in GOLDEN if c["kind"] in ("taid", "fkl")])
def test_value_and_gradient_of_the_official_code(case: dict) -> None:
    inputs = golden_inputs(case)
    student, teacher, mask = inputs["student"].requires_grad_(), inputs["teacher"], inputs["mask"]
    t = case["kwargs"].get("t", 1.0)
    official = taid_cross_entropy(student[mask], teacher[mask], t).mean()
    assert official.item() == pytest.approx(case["loss"], rel=1e-6)
    for loss in (official, taid(student[mask], teacher[mask], t).mean()):
        flat = gradient_of(loss, student).flatten()
        assert flat.norm().item() == pytest.approx(case["grad_norm"], rel=1e-5, abs=2e-8)
        sample = flat[:: flat.numel() // 7][:7].tolist()
        assert sample == pytest.approx(case["grad_sample"], rel=1e-4, abs=2e-8)


@pytest.mark.parametrize("case", [c for c in GOLDEN if c["kind"] == "rkl"])
def test_reverse_kl_of_the_official_code(case: dict) -> None:
    inputs = golden_inputs(case)
    student, teacher, mask = inputs["student"].requires_grad_(), inputs["teacher"], inputs["mask"]
    loss = reverse_kl(student[mask], teacher[mask]).mean()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    assert gradient_of(loss, student).norm().item() == pytest.approx(case["grad_norm"], rel=1e-5)


def test_golden_file_has_the_cases_used_here() -> None:
    kinds = [case["kind"] for case in GOLDEN]
    assert (kinds.count("taid"), kinds.count("fkl"), kinds.count("rkl")) == (10, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [2, 9, 1031])
def test_t_zero_is_zero_to_the_bit(dtype: torch.dtype, vocabulary: int) -> None:
    student = logits(1, vocabulary=vocabulary).to(dtype).requires_grad_()
    teacher = logits(2, vocabulary=vocabulary).to(dtype)
    loss = taid(student, teacher, 0.0)
    assert (loss == 0).all()
    assert (gradient_of(loss * 3.7, student) == 0).all()
    assert (gradient_of(taid_cross_entropy(student, teacher, 0.0), student) == 0).all()


def test_t_one_is_forward_kl_to_the_bit() -> None:
    student, teacher = logits(3).requires_grad_(), logits(4)
    assert torch.equal(taid(student, teacher, 1.0), forward_kl(student, teacher))
    ours, theirs = (gradient_of(f, student) for f in (taid(student, teacher, 1.0), forward_kl(student, teacher)))
    assert torch.equal(ours, theirs)


def test_small_t_is_t_times_reverse_kl() -> None:
    student, teacher = logits(5).requires_grad_(), logits(6)
    limit = gradient_of(reverse_kl(student, teacher), student)
    assert limit.norm() > 0.1
    errors = [
        ((gradient_of(taid(student, teacher, t), student) / t - limit).norm() / limit.norm()).item()
        for t in (1e-2, 1e-3, 1e-4)
    ]
    assert errors[-1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)  # the error falls in proportion to t
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("t", TS)
def test_gradient_is_closed_form_and_finite_differences_agree(t: float) -> None:
    student, teacher = logits(7).requires_grad_(), logits(8)
    target = taid_target_logits(student, teacher, t)
    expected = student.detach().softmax(-1) - target.softmax(-1)
    torch.testing.assert_close(gradient_of(taid(student, teacher, t), student), expected, rtol=0, atol=1e-15)
    # The value with the target held fixed, differentiated numerically.
    small, small_target = student.detach()[:2, :4].clone().requires_grad_(), target[:2, :4]
    assert torch.autograd.gradcheck(lambda z: taid(z, small_target, 1.0), small)


def test_a_missing_stop_gradient_would_show() -> None:
    student, teacher, t = logits(9).requires_grad_(), logits(10), 0.4
    ours = gradient_of(taid(student, teacher, t), student)
    mixture = ((1 - t) * student + t * teacher).log_softmax(-1)
    leaking_loss = (mixture.exp() * (mixture - student.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(taid(student, teacher, t), leaking_loss)  # the value cannot tell
    leaking = gradient_of(leaking_loss, student)
    assert (leaking - ours).norm() > 0.2 * ours.norm()
    assert not taid_target_logits(student, teacher, t).requires_grad


def test_teacher_gets_no_gradient() -> None:
    student, teacher = logits(11).requires_grad_(), logits(12).requires_grad_()
    (taid(student, teacher, 0.5) + taid_cross_entropy(student, teacher, 0.5)).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_logits_are_interpolated_not_probabilities() -> None:
    student, teacher, t = logits(13), logits(14), 0.4
    target = taid_target_logits(student, teacher, t).softmax(-1)
    q, p = student.softmax(-1), teacher.softmax(-1)
    geometric = q ** (1 - t) * p**t
    torch.testing.assert_close(target, geometric / geometric.sum(-1, keepdim=True))
    assert (target - ((1 - t) * q + t * p)).abs().max() > 0.05


def test_offsets_and_log_probabilities_change_nothing() -> None:
    student, teacher = logits(15).requires_grad_(), logits(16)
    rows = torch.linspace(-30, 30, 4, dtype=torch.float64).unsqueeze(-1)
    for t in TS:
        loss = taid(student, teacher, t)
        for other in (taid(student + rows, teacher - 2 * rows, t), taid(student, teacher.log_softmax(-1), t)):
            torch.testing.assert_close(other, loss, rtol=1e-12, atol=1e-13)
            torch.testing.assert_close(gradient_of(other, student), gradient_of(loss, student), rtol=0, atol=1e-14)
            loss = taid(student, teacher, t)


def test_kl_grows_with_t_and_cross_entropy_is_kl_plus_entropy() -> None:
    student, teacher = logits(17), logits(18)
    values = torch.stack([taid(student, teacher, float(t)) for t in torch.linspace(0, 1, 11)])
    assert (values.diff(dim=0) > 0).all()
    for t in TS:
        log_target = taid_target_logits(student, teacher, t).log_softmax(-1)
        entropy = -(log_target.exp() * log_target).sum(-1)
        torch.testing.assert_close(
            taid_cross_entropy(student, teacher, t), taid(student, teacher, t) + entropy, rtol=1e-12, atol=1e-12
        )


def test_mixing_happens_in_fp32() -> None:
    student, teacher = (logits(seed, vocabulary=2000, scale=5).bfloat16() for seed in (19, 20))
    t = 0.4
    exact = taid_target_logits(student.double(), teacher.double(), t).softmax(-1)
    ours = taid_target_logits(student, teacher, t)
    assert ours.dtype == torch.float32
    assert (ours.softmax(-1) - exact).abs().max() < 1e-6
    in_bf16 = ((1 - t) * student + t * teacher).float().softmax(-1)
    assert (in_bf16 - exact).abs().max() > 1e-4  # what the test would see otherwise


def test_impossible_tokens() -> None:
    student, teacher = logits(21), logits(22)
    teacher[:, 3] = -math.inf
    student.requires_grad_()
    for t in TS:
        loss = taid(student, teacher, t)
        assert loss.isfinite().all(), t
        assert gradient_of(loss, student).isfinite().all(), t
        assert taid_cross_entropy(student, teacher, t).isfinite().all(), t
    # At t = 0 the teacher has no say, at any other t the token is out.
    assert (taid_target_logits(student, teacher, 0.0)[:, 3] == student[:, 3]).all()
    assert (taid_target_logits(student, teacher, 0.1)[:, 3] == -math.inf).all()

    masked = student.detach().clone()
    masked[:, 5] = -math.inf
    assert (taid_target_logits(masked, teacher, 1.0) == teacher).all()  # not 0 * -inf
    assert taid(masked, teacher, 0.9).isfinite().all()
    assert (taid(masked, teacher, 1.0) == math.inf).all()


def test_bad_arguments_are_refused() -> None:
    student = logits(23)
    for function in (taid, taid_cross_entropy, taid_target_logits):
        for t in (-0.1, 1.1, math.nan, math.inf):
            with pytest.raises(UserError, match=r"t is .*expected a number from 0"):
                function(student, student, t)
        with pytest.raises(UserError, match=r"\[4, 9\].*\[4, 8\]"):
            function(student, logits(23, vocabulary=8), 0.5)
