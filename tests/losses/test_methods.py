"""Each method's own definition: textbook formulas written out in fp64, special cases, and where numbers run out."""

import math

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import (
    LOSS_NAMES,
    LossSpec,
    adaptive_kl,
    alpha_beta,
    amid,
    distillm2,
    dkd,
    forward_kl,
    head_and_tail_mass,
    jensen_shannon,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    tempered_kl,
    todi,
    total_variation,
)


def models(rows: int = 5, vocabulary: int = 8, seed: int = 0, scale: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64) * scale for _ in range(2))


STUDENT, TEACHER = models()
Q, P = STUDENT.softmax(-1), TEACHER.softmax(-1)
LABELS = torch.tensor([0, 3, 7, 2, 2])


def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * (a / b).log()).sum(-1)


def textbook() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    beta, skew = 0.3, 0.2
    m = beta * P + (1 - beta) * Q
    power = (0.1 * P**3 + 0.9 * Q**3) ** (1 / 3)
    lower = P <= Q
    ratio = P / (P + Q)
    a, b = 0.2, 0.7
    bracket = P**a * Q**b - a / (a + b) * P ** (a + b) - b / (a + b) * Q ** (a + b)
    rest = torch.ones_like(P, dtype=torch.bool).scatter(-1, LABELS[:, None], False)
    p_y, q_y = P.gather(-1, LABELS[:, None]).squeeze(-1), Q.gather(-1, LABELS[:, None]).squeeze(-1)
    two_way = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    rest_p, rest_q = P[rest].view(5, 7), Q[rest].view(5, 7)
    others = kl(rest_p / rest_p.sum(-1, keepdim=True), rest_q / rest_q.sum(-1, keepdim=True))
    hot = (STUDENT / 4).softmax(-1), (TEACHER / 4).softmax(-1)
    return {
        "kl": (forward_kl(STUDENT, TEACHER), kl(P, Q)),
        "rkl": (reverse_kl(STUDENT, TEACHER), kl(Q, P)),
        "tvd": (total_variation(STUDENT, TEACHER), ((Q - P) * lower).sum(-1)),
        "jsd": (jensen_shannon(STUDENT, TEACHER, beta), beta * kl(P, m) + (1 - beta) * kl(Q, m)),
        "sfkl": (skew_forward_kl(STUDENT, TEACHER, skew), kl(P, skew * P + (1 - skew) * Q)),
        "srkl": (skew_reverse_kl(STUDENT, TEACHER, skew), kl(Q, (1 - skew) * P + skew * Q)),
        "ctkd": (tempered_kl(STUDENT, TEACHER, 4.0), 16 * kl(hot[1], hot[0])),
        "dkd": (dkd(STUDENT, TEACHER, LABELS, 0.5, 3.0), 0.5 * two_way + 3 * others),
        "ab": (alpha_beta(STUDENT, TEACHER, a, b), -bracket.sum(-1) / (a * b)),
        "amid": (amid(STUDENT, TEACHER), kl(P, power / power.sum(-1, keepdim=True))),
        "todi": (todi(STUDENT, TEACHER), (ratio * P * (P / Q).log() + (1 - ratio) * Q * (Q / P).log()).sum(-1)),
        "distillm2": (distillm2(STUDENT, TEACHER, None, skew, 0.8), 1.2 * kl(P, skew * P + (1 - skew) * Q)),
    }


@pytest.mark.parametrize("name", sorted(textbook()))
def test_values_are_the_formulas_of_the_papers(name: str) -> None:
    ours, formula = textbook()[name]
    assert ours.shape == (5,)
    torch.testing.assert_close(ours, formula)


def test_adaptive_kl_by_sorting_as_the_paper_describes() -> None:
    order = P.argsort(dim=-1, descending=True)
    p, q = P.gather(-1, order), Q.gather(-1, order)
    head = p.cumsum(-1) <= 0.5
    head[:, 0] = True
    gap = (p - q).abs()
    weight = (gap * head).sum(-1) / gap.sum(-1)
    torch.testing.assert_close(adaptive_kl(STUDENT, TEACHER), weight * kl(P, Q) + (1 - weight) * kl(Q, P))


def test_adaptive_kl_where_the_boundary_of_the_head_matters() -> None:
    """0.31 + 0.29 crosses one half: the second token is tail, and with mu = 0.6 it is head."""
    teacher = torch.tensor([[0.31, 0.29, 0.25, 0.15]], dtype=torch.float64)
    student = torch.tensor([[0.21, 0.09, 0.4, 0.3]], dtype=torch.float64)
    forward, reverse = kl(teacher, student), kl(student, teacher)
    for mu, head_gap in ((0.5, 0.1), (0.6 + 1e-9, 0.3)):
        weight = head_gap / 0.6
        expected = weight * forward + (1 - weight) * reverse
        torch.testing.assert_close(adaptive_kl(student.log(), teacher.log(), mu), expected)


def test_adaptive_kl_finds_a_head_wider_than_its_first_guess() -> None:
    """A flat teacher of 1,000 tokens has about 500 in its head."""
    student, teacher = models(rows=3, vocabulary=1000, scale=0.01)
    p, q = teacher.softmax(-1), student.softmax(-1)
    order = p.argsort(dim=-1, descending=True)
    gap = (p - q).abs().gather(-1, order)
    weight = (gap * (p.gather(-1, order).cumsum(-1) <= 0.5)).sum(-1) / gap.sum(-1)
    torch.testing.assert_close(adaptive_kl(student, teacher), weight * kl(p, q) + (1 - weight) * kl(q, p))


def test_dkd_is_forward_kl_taken_apart() -> None:
    """KL = TCKD + (1 - p_label) NCKD (arXiv 2203.08679, eq. 6)."""
    p_y = P.gather(-1, LABELS[:, None]).squeeze(-1)
    target, others = dkd(STUDENT, TEACHER, LABELS, 1.0, 0.0), dkd(STUDENT, TEACHER, LABELS, 0.0, 1.0)
    torch.testing.assert_close(target + (1 - p_y) * others, forward_kl(STUDENT, TEACHER))


def test_dkd_of_a_label_outside_the_shared_vocabulary_is_forward_kl_of_the_others() -> None:
    outside = torch.full((5,), -1)
    torch.testing.assert_close(dkd(STUDENT, TEACHER, outside, 1.0, 1.0), forward_kl(STUDENT, TEACHER))


def test_jensen_shannon_at_its_ends_and_between() -> None:
    assert torch.equal(jensen_shannon(STUDENT, TEACHER, 0.0), forward_kl(STUDENT, TEACHER))
    assert torch.equal(jensen_shannon(STUDENT, TEACHER, 1.0), reverse_kl(STUDENT, TEACHER))
    # The convention is the limit of the divergence over beta (1 - beta).
    for beta, end in ((1e-6, forward_kl), (1 - 1e-6, reverse_kl)):
        limit = jensen_shannon(STUDENT, TEACHER, beta) / (beta * (1 - beta))
        torch.testing.assert_close(limit, end(STUDENT, TEACHER), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(jensen_shannon(STUDENT, TEACHER, 0.5), jensen_shannon(TEACHER, STUDENT, 0.5))


def test_alpha_beta_at_its_ends_and_near_them() -> None:
    for (alpha, beta), end in (((1.0, 0.0), forward_kl), ((0.0, 1.0), reverse_kl)):
        torch.testing.assert_close(alpha_beta(STUDENT, TEACHER, alpha, beta), end(STUDENT, TEACHER))
        near = alpha_beta(STUDENT, TEACHER, max(alpha, 1e-6), max(beta, 1e-6))
        torch.testing.assert_close(near, end(STUDENT, TEACHER), rtol=1e-4, atol=1e-4)


def test_amid_contains_the_methods_it_generalises() -> None:
    lam = 0.3
    torch.testing.assert_close(amid(STUDENT, TEACHER, -1.0, lam), skew_forward_kl(STUDENT, TEACHER, lam))
    torch.testing.assert_close(amid(STUDENT, TEACHER, -5.0, 0.0), forward_kl(STUDENT, TEACHER))
    geometric = (lam * TEACHER + (1 - lam) * STUDENT).softmax(-1)
    torch.testing.assert_close(amid(STUDENT, TEACHER, 1.0, lam), kl(P, geometric))
    torch.testing.assert_close(amid(STUDENT, TEACHER, 1.0 + 1e-7, lam), kl(P, geometric), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(amid(STUDENT, TEACHER, -1.0, 0.2, "ab"), alpha_beta((0.2 * P + 0.8 * Q).log(), TEACHER))


def test_distillm2_by_who_wrote_the_answer() -> None:
    written = torch.tensor([True, False, True, False, False])
    values = distillm2(STUDENT, TEACHER, written, 0.1, 1.5)
    torch.testing.assert_close(values[written], 1.5 * skew_reverse_kl(STUDENT, TEACHER)[written])
    torch.testing.assert_close(values[~written], 0.5 * skew_forward_kl(STUDENT, TEACHER)[~written])


@pytest.mark.parametrize("function", [jensen_shannon, skew_forward_kl, skew_reverse_kl, amid, todi, adaptive_kl])
def test_logits_that_underflow(function) -> None:
    """A difference of several hundred: the logarithm of a softmax would be -inf, and 0 * -inf is NaN."""
    student = torch.tensor([[0.0, -400.0, -800.0], [-700.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-800.0, 0.0, -400.0], [0.0, -700.0, 0.0]])
    values = function(student, teacher)
    assert values.isfinite().all()
    assert (values > 0).all()
    values.sum().backward()
    assert student.grad.isfinite().all()


def test_skew_bounds_what_underflow_could_make_infinite() -> None:
    student, teacher = torch.tensor([[0.0, -1e4]]), torch.tensor([[-1e4, 0.0]])
    assert skew_forward_kl(student, teacher, 0.1).item() == pytest.approx(-math.log(0.1))
    assert skew_reverse_kl(student, teacher, 0.1).item() == pytest.approx(-math.log(0.1))


def test_head_and_tail_mass_by_sorting() -> None:
    student, _ = models(rows=4, vocabulary=60)
    ranked = student.softmax(-1).sort(dim=-1, descending=True).values
    head, tail = head_and_tail_mass(student)
    torch.testing.assert_close(head, ranked[:, :10].sum(-1))
    torch.testing.assert_close(tail, ranked[:, 48:].sum(-1))
    collapsed, _ = head_and_tail_mass(student * 50)
    assert (collapsed > head).all()
    whole, _ = head_and_tail_mass(student[:, :6])
    torch.testing.assert_close(whole, torch.ones(4, dtype=torch.float64))


def test_names_and_options_are_exact() -> None:
    assert set(LOSS_NAMES) == {
        *("sft", "taid", "kl", "rkl", "tvd", "jsd", "adaptive_kl", "sfkl", "srkl"),
        *("ctkd", "dkd", "ab", "amid", "todi", "distillm2"),
    }
    for build, message in (
        (lambda: LossSpec.of("jds"), "did you mean 'jsd'"),
        (lambda: LossSpec.of("jsd", beat=0.5), "no option 'beat'.*did you mean 'beta'"),
        (lambda: LossSpec.of("kl", beta=0.5), "no option 'beta': it has none"),
        (lambda: LossSpec.of("sft", beta=0.5), "'sft' has no options"),
        (lambda: LossSpec.of("jsd", beta=1.5), r"beta of jsd is 1.5, expected a number from 0 to 1"),
        (lambda: LossSpec.of("jsd", beta=math.nan), "beta of jsd is nan"),
        (lambda: LossSpec.of("sfkl", skew=0.0), "skew of sfkl is 0.0.*above 0"),
        (lambda: LossSpec.of("adaptive_kl", mu=1.0), "mu of adaptive_kl"),
        (lambda: LossSpec.of("dkd", temperature=0.0), "temperature of dkd"),
        (lambda: LossSpec.of("ab", alpha=0.0, beta=0.0), "both 0"),
        (lambda: LossSpec.of("amid", lam=1.0), "lam of amid is 1.0"),
        (lambda: LossSpec.of("amid", measure="kll"), "did you mean 'kl'"),
        (lambda: LossSpec.of("amid", measure=1.0), "option measure of loss 'amid' is 1.0, expected a name such as kl"),
        (lambda: LossSpec.of("jsd", beta="half"), "option beta of loss 'jsd' is 'half', expected a number such as 0.1"),
        (lambda: LossSpec.of("distillm2", student_weight=3.0), "student_weight of distillm2"),
        (lambda: LossSpec.of("taid", divergence="rlk"), "did you mean 'rkl'"),
        (lambda: LossSpec.of("taid", divergence="ctkd"), "cannot be taken to TAID's target"),
        (lambda: LossSpec.of("kl", divergence="rkl"), "only 'taid' is combined"),
        (lambda: LossSpec.of("kl", semantics="refrence"), "did you mean 'reference'"),
    ):
        with pytest.raises(UserError, match=message):
            build()
