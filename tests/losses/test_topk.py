"""A teacher of K tokens a row: with all tokens it is the dense one, with fewer the full tensor that its tail rule means."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LOSS_NAMES, LossOutput, LossSpec, TopK, distillation_loss
from taid_vlm.losses.taid import mix
from tests.losses.cases import assert_equal_outputs, case, gradients, rows_per_chunk, without_teacher
from tests.losses.test_every_loss import SPECS, extras, temperature_slope

REFERENCE = {
    f"{name}-reference": LossSpec.of(name, semantics="reference")
    for name in ("taid", "kl", "rkl", "tvd", "jsd", "adaptive_kl", "sfkl", "srkl", "ctkd", "dkd")
}
EVERY = {**SPECS, **REFERENCE}
# Infinite or undefined where the teacher rules a token out.
REFUSED = {
    *("rkl", "jsd-1", "adaptive_kl", "todi", "dkd", "dkd-warm", "ab-reverse", "taid-rkl", "taid-dkd", *REFERENCE),
}
every_loss = pytest.mark.parametrize("name", EVERY)
both_forms = pytest.mark.parametrize("implementation", ["fused", "plain"])


def teacher_logits(arguments: dict[str, Any]) -> torch.Tensor:
    bias = arguments.get("teacher_bias", 0.0)
    return (arguments["teacher_hidden_ND"] @ arguments["teacher_head_UD"].T + bias).detach()


def by_hand(topk: TopK, vocabulary: int) -> torch.Tensor:
    """[N, V] log-probabilities that the tail rule means, token by token in Python."""
    full = []
    for ids, values in zip(topk.ids.tolist(), topk.log_probs.tolist(), strict=True):
        known = {i: v for i, v in zip(ids, values, strict=True) if 0 <= i < vocabulary}
        left = 1 - sum(math.exp(v) for i, v in zip(ids, values, strict=True) if i >= 0)
        others = vocabulary - len(known)
        tail = math.log(left / others) if others and topk.tail == "uniform" else -math.inf
        full.append([known.get(token, tail) for token in range(vocabulary)])
    logits = torch.tensor(full, dtype=topk.log_probs.dtype).reshape(topk.rows, vocabulary)
    return logits.log_softmax(-1)


def as_dense(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """A dense teacher with these logits, to the last bit."""
    return {"teacher_hidden_ND": logits, "teacher_head_UD": torch.eye(logits.shape[1], dtype=logits.dtype)}


def losses(arguments: dict[str, Any], topk: TopK, **options: Any) -> LossOutput:
    return distillation_loss(**without_teacher(arguments), teacher_topk=topk, **options)


@every_loss
@both_forms
@pytest.mark.parametrize("tail", ["uniform", "none"])
@pytest.mark.parametrize("cut", [0, 3])
def test_all_tokens_are_the_dense_teacher(name: str, implementation: str, tail: str, cut: int) -> None:
    """Also where the shared vocabulary is smaller: tokens outside are dropped, the rest renormalised."""
    if tail == "none" and name in REFUSED:
        return
    spec, arguments = EVERY[name], case(7, 11, 13)
    arguments["labels_N"][0] = 10
    if name == "dkd-reference":  # NaN for labels outside of the shared vocabulary, as theirs
        arguments["labels_N"] %= 8
    topk = TopK.of(teacher_logits(arguments), 13, tail)
    options = {**extras(spec, 7), "spec": spec, "t": 0.4, "vocabulary": 11 - cut, "chunk_bytes": rows_per_chunk(3, 11)}
    dense = distillation_loss(**arguments, **options, implementation="plain")
    sparse = losses(arguments, topk, **options, implementation=implementation)
    assert_equal_outputs(sparse, dense, arguments, rtol=1e-9, atol=1e-9)
    if spec.trains_temperature:
        slopes = [temperature_slope(output, options["temperature"]) for output in (sparse, dense)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(list(EVERY)),
    rows=st.integers(0, 6),
    vocabulary=st.integers(2, 12),
    extra=st.integers(0, 3),
    k=st.integers(1, 12),
    t=st.sampled_from([0.0, 1e-3, 0.4, 1.0]),
    chunk_rows=st.integers(1, 4),
    implementation=st.sampled_from(["fused", "plain"]),
    seed=st.integers(0, 1000),
)
def test_fewer_tokens_are_the_full_tensor_with_an_even_tail(
    name, rows, vocabulary, extra, k, t, chunk_rows, implementation, seed
) -> None:
    spec, arguments = EVERY[name], case(rows, vocabulary, vocabulary + extra, seed=seed)
    topk = TopK.of(teacher_logits(arguments), min(k, vocabulary - 1), "uniform")
    full = as_dense(by_hand(topk, vocabulary))
    options = {**extras(spec, rows), "spec": spec, "t": t}
    dense = distillation_loss(**without_teacher(arguments), **full, **options, implementation="plain")
    budget = rows_per_chunk(chunk_rows, vocabulary)
    sparse = losses(arguments, topk, **options, implementation=implementation, chunk_bytes=budget)
    skip = ("agreement",)  # equal logits of an even tail have no one top token
    assert_equal_outputs(sparse, dense, arguments, skip, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in SPECS if name not in REFUSED])
@both_forms
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("t", [1e-3, 0.4, 1.0])
def test_without_a_tail_the_others_are_impossible(name: str, implementation: str, k: int, t: float) -> None:
    """Against the methods' definitions with logits of -inf, or of -1e7 for CTKD, whose slope in T is 0 * inf there."""
    spec, arguments = SPECS[name], case(6, 11)
    topk = TopK.of(teacher_logits(arguments), k, "none")
    options = {**extras(spec, 6), "spec": spec, "t": t}
    sparse = losses(arguments, topk, **options, implementation=implementation, chunk_bytes=rows_per_chunk(2, 11))
    assert all(value.isfinite() for value in sparse.sums.values())
    student = arguments["student_hidden_NH"] @ arguments["student_head_VH"].T + arguments["student_bias"]
    kd = torch.zeros(())
    if spec.kd_weight:
        full = by_hand(topk, 11)
        if spec.trains_temperature:
            full = full.clamp(min=-1e7)
        target = mix(student.detach(), full, t) if spec.name == "taid" else full
        extra = [options["temperature"]] if spec.trains_temperature else []
        extra += [options["student_written_N"]] if options["student_written_N"] is not None else []
        kd = spec.method.plain(student, target, *extra, **spec.options).sum()
        torch.testing.assert_close(sparse.sums["kd"], kd.detach())
    loss = spec.kd_weight * kd
    if spec.ce_weight:
        loss = loss + spec.ce_weight * torch.nn.functional.cross_entropy(
            student, arguments["labels_N"], reduction="sum"
        )
    expected = LossOutput(loss, 6, {})
    torch.testing.assert_close(sparse.loss, loss)
    theirs = gradients(expected, arguments)
    for leaf, gradient in gradients(sparse, arguments).items():
        torch.testing.assert_close(gradient, theirs[leaf])
    if spec.trains_temperature:
        torch.testing.assert_close(
            temperature_slope(sparse, options["temperature"]), temperature_slope(expected, options["temperature"])
        )


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_objectives_that_are_infinite_without_a_tail_are_refused(name: str) -> None:
    spec, arguments = EVERY[name], case(4, 9)
    topk = TopK.of(teacher_logits(arguments), 3, "none")
    with pytest.raises(UserError, match=r"tail rule 'none'.*take the tail rule 'uniform'"):
        losses(arguments, topk, **extras(spec, 4), spec=spec)
    watch = LossSpec(spec.name, 0.0, 1.0, spec.divergence, spec.options, spec.semantics)
    assert losses(arguments, topk, **extras(spec, 4), spec=watch).loss.isfinite()  # it is only watched


def test_what_is_refused_is_infinite_or_undefined() -> None:
    """No objective is refused without need: the definitions, with teachers that rule tokens out."""
    student = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    teacher = torch.full_like(student, -math.inf)
    teacher[:, 1] = 0.0
    labels = torch.ones(3, dtype=torch.long)
    for name in SPECS:
        spec = SPECS[name]
        if not spec.kd_weight:
            continue
        extra = {"labels": [labels], "temperature": [3.0]}.get(spec.method.extra or "", [])
        values = spec.method.plain(student, teacher, *extra, **spec.options)
        if name not in ("dkd-warm", "dkd", "taid-dkd"):
            assert bool(values.isfinite().all()) == (name not in REFUSED), name
        else:
            assert values.isnan().any()


@every_loss
@both_forms
def test_no_rows(name: str, implementation: str) -> None:
    arguments, spec = case(0, 9), EVERY[name]
    topk = TopK(torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, 4, dtype=torch.float64), "uniform")
    output = losses(arguments, topk, **extras(spec, 0), spec=spec, t=0.4, implementation=implementation)
    assert output.loss == 0
    assert all((gradient == 0).all() for gradient in gradients(output, arguments).values())


@pytest.mark.parametrize("name", ["taid", "kl", "rkl", "jsd", "adaptive_kl", "dkd", "kl-ce"])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_bf16_autocast(name: str, softcap: float | None) -> None:
    """The teacher's log-probabilities stay in fp32; the student's products are in bf16, in both forms."""
    spec, arguments = SPECS[name], case(40, 50, width=16, dtype=torch.float32, scale=0.3)
    topk = TopK.of(teacher_logits(arguments), 8, "uniform")
    options = {"spec": spec, "t": 0.4, "student_softcap": softcap}
    exact = losses(arguments, topk, **options, implementation="plain")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = losses(arguments, topk, **options, chunk_bytes=16 * 50 * 6)
        plain = losses(arguments, topk, **options, implementation="plain")
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.sums["teacher_entropy"], exact.sums["teacher_entropy"], rtol=1e-5, atol=1e-5)
    theirs = gradients(exact, arguments)
    for leaf, gradient in gradients(fused, arguments).items():
        assert (gradient - theirs[leaf]).norm() < 0.02 * theirs[leaf].norm()


def test_rows_that_know_less_are_filled_up() -> None:
    arguments, spec = case(3, 9), LossSpec.of("rkl")
    short = TopK.of(teacher_logits(arguments), 3, "uniform")
    padded = TopK(
        torch.cat([torch.full((3, 2), -1), short.ids], -1),
        torch.cat([torch.zeros(3, 2, dtype=torch.float64), short.log_probs], -1),
        "uniform",
    )
    assert torch.equal(losses(arguments, short, spec=spec).loss, losses(arguments, padded, spec=spec).loss)
    half = padded.ids.clone()
    half[1, 2:] = -1
    nothing = TopK(half, padded.log_probs, "uniform")  # of row 1 nothing is known: every token is as likely
    assert losses(arguments, nothing, spec=LossSpec.of("kl")).sums["teacher_entropy"].isfinite()
    assert by_hand(nothing, 9)[1].allclose(torch.full((9,), -math.log(9), dtype=torch.float64))
    torch.testing.assert_close(nothing.over(9).logits().log_softmax(-1), by_hand(nothing, 9))
    with pytest.raises(UserError, match="row 1 of a top-k teacher has no token of the shared vocabulary"):
        losses(arguments, TopK(half, padded.log_probs, "none"), spec=LossSpec.of("kl"))


@given(k=st.integers(1, 8), vocabulary=st.integers(2, 8), seed=st.integers(0, 100), sharp=st.sampled_from([1.0, 60.0]))
def test_what_a_tail_rule_means(k: int, vocabulary: int, seed: int, sharp: float) -> None:
    """Known ratios are kept, the mass that is left goes to the others evenly, and no token is ruled out by rounding."""
    logits = sharp * torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
    topk = TopK.of(logits, k, "uniform")
    p = topk.over(vocabulary).logits().double().softmax(-1)
    assert (p > 0).any(-1).all()
    assert topk.over(vocabulary).logits().isfinite().all()
    torch.testing.assert_close(p.sum(-1), torch.ones(4, dtype=torch.float64))
    known = torch.zeros(4, 9, dtype=torch.bool).scatter_(1, topk.ids, True)[:, :vocabulary]
    for row in range(4):
        tail = p[row][~known[row]]
        assert len(tail) == 0 or (tail == tail[0]).all()
        if vocabulary == 8 and sharp == 1.0 and k < 8:
            exact = logits[row].double().softmax(-1)
            torch.testing.assert_close(p[row][known[row]], exact[known[row]], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(tail.sum(), exact[~known[row]].sum(), rtol=1e-4, atol=1e-6)


def test_bad_input_is_told() -> None:
    ids, values = torch.tensor([[0, 1]]), torch.tensor([[-1.0, -2.0]])
    arguments = case(1, 9, dtype=torch.float32)

    def refused(match: str, *given: Any, **options: Any) -> None:
        with pytest.raises(UserError, match=match):
            losses(arguments, TopK(*given), spec=LossSpec.of("kl"), **options)

    refused("unknown tail rule 'unifrom'.*did you mean 'uniform'", ids, values, "unifrom")
    refused(r"ids \[1, 2\] and log-probabilities \[1, 1\]", ids, values[:, :1], "uniform")
    refused(r"k of at least 1", ids[:, :0], values[:, :0], "uniform")
    refused("ids of torch.int32", ids.int(), values, "uniform")
    refused("a token twice", torch.tensor([[3, 3]]), values, "uniform")
    refused(r"add up to 22.8.*not logits", ids, torch.tensor([[3.0, 1.0]]), "uniform")
    refused("student has 1 rows and the teacher 2", ids.expand(2, 2), values.expand(2, 2), "uniform")
    refused("log-probabilities.*not finite in 1 rows", ids, torch.tensor([[math.nan, -1.0]]), "uniform")
    with pytest.raises(UserError, match="expected one teacher"):
        distillation_loss(**arguments, teacher_topk=TopK(ids, values, "none"), spec=LossSpec.of("kl"))
    with pytest.raises(UserError, match="top_k is 10, expected 1 to 9"):
        TopK.of(torch.zeros(1, 9), 10, "uniform")
    assert set(LOSS_NAMES) <= set(SPECS)
