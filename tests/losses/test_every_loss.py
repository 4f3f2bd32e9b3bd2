"""What holds for every loss: both forms agree, and the properties that any divergence of two models must have."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.losses import LOSS_NAMES, LossOutput, LossSpec, distillation_loss, fused
from taid_vlm.losses.methods import DIVERGENCES
from tests.losses.cases import STUDENT, assert_equal_outputs, both, case, gradients, rows_per_chunk

SPECS = {
    **{name: LossSpec.of(name) for name in LOSS_NAMES},
    "jsd-0": LossSpec.of("jsd", beta=0.0),
    "jsd-1": LossSpec.of("jsd", beta=1.0),
    "jsd-half": LossSpec.of("jsd", beta=0.5),
    "dkd-warm": LossSpec.of("dkd", alpha=0.5, beta=2.0, temperature=2.0),
    "ab-forward": LossSpec.of("ab", alpha=1.0, beta=0.0),
    "ab-reverse": LossSpec.of("ab", alpha=0.0, beta=1.0),
    "amid-geometric": LossSpec.of("amid", alpha=1.0, lam=0.4),
    "amid-harmonic-rkl": LossSpec.of("amid", alpha=3.0, lam=0.2, measure="rkl"),
    "amid-ab": LossSpec.of("amid", alpha=-1.0, lam=0.3, measure="ab"),
    "amid-student": LossSpec.of("amid", lam=0.0),
    "distillm2-late": LossSpec.of("distillm2", skew=0.2, student_weight=1.5),
    "taid-rkl": LossSpec.of("taid", divergence="rkl"),
    "taid-tvd-ce": LossSpec.of("taid", ce_weight=0.3, divergence="tvd"),
    "taid-dkd": LossSpec.of("taid", divergence="dkd"),
    "taid-distillm2": LossSpec.of("taid", divergence="distillm2"),
    "kl-ce": LossSpec.of("kl", kd_weight=0.7, ce_weight=0.4),
}
every_loss = pytest.mark.parametrize("name", SPECS)


def extras(spec: LossSpec, rows: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Any]:
    """What some losses take beside the usual arguments."""
    generator = torch.Generator().manual_seed(seed)
    written = torch.rand(rows, generator=generator) < 0.5
    return {
        "temperature": torch.tensor(3.0, dtype=dtype, requires_grad=True) if spec.trains_temperature else None,
        "student_written_N": written if "distillm2" in (spec.name, spec.divergence) else None,
    }


def temperature_slope(output: LossOutput, temperature: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(output.loss, temperature, retain_graph=True)[0]


@settings(deadline=None, max_examples=400)
@given(
    name=st.sampled_from(list(SPECS)),
    rows=st.integers(0, 7),
    vocabulary=st.integers(2, 12),
    extra=st.integers(-2, 2),
    cut=st.integers(0, 2),
    t=st.sampled_from([0.0, 1e-3, 0.4, 1.0]),
    bias=st.booleans(),
    logit_scale=st.sampled_from([1.0, 0.3]),
    softcap=st.sampled_from([None, 2.0, 30.0]),
    chunk_rows=st.integers(1, 8),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 10_000),
)
def test_fused_is_plain(
    name, rows, vocabulary, extra, cut, t, bias, logit_scale, softcap, chunk_rows, dtype, scale, seed
) -> None:
    spec = SPECS[name]
    others = max(2, vocabulary + extra)
    arguments = case(rows, vocabulary, others, bias=bias, dtype=dtype, seed=seed, scale=scale)
    shared = max(2, min(vocabulary, others) - cut)
    more = extras(spec, rows, dtype, seed)
    fused, plain = both(
        arguments,
        **more,
        spec=spec,
        t=t,
        vocabulary=shared,
        student_scale=logit_scale,
        teacher_scale=0.5,
        student_softcap=softcap,
        teacher_softcap=softcap,
        mass_rows=2,
        chunk_bytes=rows_per_chunk(chunk_rows, vocabulary, shared, dtype.itemsize),
    )
    tolerance = {"rtol": 1e-8, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 2e-3, "atol": 2e-3}
    # Deep in a soft cap whether two logits are equal hangs on the last bit of the product.
    skip = ("agreement",) if softcap == 2.0 and scale == 4.0 else ()
    assert_equal_outputs(fused, plain, arguments, skip, **tolerance)
    if more["temperature"] is not None and rows:
        slopes = [temperature_slope(output, more["temperature"]) for output in (fused, plain)]
        torch.testing.assert_close(*slopes, **tolerance)


def frozen(spec: LossSpec, arguments: dict[str, Any], t: float, more: dict[str, Any]) -> Any:
    """The loss as a function of the student's leaves, with whatever is held fixed held at its present value."""
    from taid_vlm.losses.adaptive import head_weight
    from taid_vlm.losses.divergences import cross_entropy, expectation, forward_kl, reverse_kl
    from taid_vlm.losses.taid import taid_target_logits

    def logits(hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return hidden @ head.T + bias

    now = logits(*(arguments[name] for name in STUDENT)).detach()
    teacher = (arguments["teacher_hidden_ND"] @ arguments["teacher_head_UD"].T + arguments["teacher_bias"]).detach()
    target = taid_target_logits(now, teacher, t) if spec.name == "taid" else teacher
    p, q = target.softmax(-1), now.softmax(-1)

    def loss(*leaves: torch.Tensor) -> torch.Tensor:
        student = logits(*leaves)
        labels = arguments["labels_N"]
        total = spec.ce_weight * cross_entropy(student, labels).sum()
        if spec.divergence == "adaptive_kl":
            weight = head_weight(p, q, 0.5)
            return total + (weight * forward_kl(student, target) + (1 - weight) * reverse_kl(student, target)).sum()
        if spec.divergence == "todi":
            weight, log_q, log_p = p / (p + q), student.log_softmax(-1), target.log_softmax(-1)
            forward = expectation(weight * p, log_p - log_q)
            return total + (forward + expectation((1 - weight) * log_q.exp(), log_q - log_p)).sum()
        if not spec.divergence:
            return total
        extra = {
            "labels": (labels,),
            "temperature": (more["temperature"],),
            "student_written": (more["student_written_N"],),
        }.get(spec.method.extra or "", ())
        return total + spec.kd_weight * spec.method.plain(student, target, *extra, **spec.options).sum()

    return loss


@every_loss
@pytest.mark.parametrize("t", [0.4, 1.0])
def test_gradients_agree_with_finite_differences(name: str, t: float) -> None:
    """gradcheck of the plain form, of what it holds fixed too; then the fused gradient must be the same."""
    spec = SPECS[name]
    arguments = case(3, 5, width=3, seed=3)
    more = extras(spec, 3)
    leaves = tuple(arguments[name] for name in STUDENT)
    loss = frozen(spec, arguments, t, more)
    assert torch.autograd.gradcheck(loss, leaves)
    fused = distillation_loss(**arguments, **more, spec=spec, t=t, chunk_bytes=rows_per_chunk(2, 5))
    torch.testing.assert_close(fused.loss, loss(*leaves))
    for leaf, gradient in zip(STUDENT, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        torch.testing.assert_close(gradients(fused, arguments)[leaf], gradient)


@pytest.mark.parametrize("name", ["taid", "taid-rkl", "adaptive_kl", "todi"])
def test_a_missing_stop_gradient_would_be_caught(name: str) -> None:
    """With gradient through what must be held fixed, the finite differences of the test above are other numbers."""
    spec, arguments = SPECS[name], case(3, 5, width=3, seed=3)
    leaves = tuple(arguments[leaf] for leaf in STUDENT)

    def unfrozen(*moved: torch.Tensor) -> torch.Tensor:
        changed = {**arguments, **dict(zip(STUDENT, moved, strict=True))}
        return frozen(spec, changed, 0.4, extras(spec, 3))(*moved).detach()

    hidden = leaves[0].detach()
    step = torch.zeros_like(hidden)
    step[0, 0] = 1e-6
    difference = (unfrozen(hidden + step, *leaves[1:]) - unfrozen(hidden - step, *leaves[1:])) / 2e-6
    ours = gradients(distillation_loss(**arguments, spec=spec, t=0.4), arguments)["student_hidden_NH"][0, 0]
    assert abs(difference - ours) > 1e-3


@every_loss
def test_equal_models_are_at_rest(name: str) -> None:
    spec = SPECS[name]
    arguments = case(6, 9)
    for ours, theirs in (("student_hidden_NH", "teacher_hidden_ND"), ("student_head_VH", "teacher_head_UD")):
        arguments[theirs] = arguments[ours].detach().clone()
    arguments["teacher_bias"] = arguments["student_bias"].detach().clone()
    without_ce = LossSpec.of(spec.name, divergence=spec.divergence if spec.name == "taid" else "", **spec.options)
    if without_ce.name == "sft":
        return
    for output in both(arguments, **extras(without_ce, 6), spec=without_ce, t=0.4):
        assert output.loss.abs() < 1e-12
        if without_ce.name == "taid" and without_ce.divergence == "tvd":
            continue  # its slope is a sign: that of the rounding of the mixture
        assert all(gradient.abs().max() < 1e-12 for gradient in gradients(output, arguments).values())


@pytest.mark.parametrize(
    "divergence", [name for name, entry in ((n, DIVERGENCES.get(n)) for n in DIVERGENCES) if entry.to_target]
)
def test_taid_composes_with_every_divergence(divergence: str) -> None:
    arguments = case(7, 9)
    spec, alone = LossSpec.of("taid", divergence=divergence), LossSpec.of(divergence)
    more = extras(spec, 7)
    for implementation in ("fused", "plain"):
        options = {**more, "implementation": implementation}
        at_rest = distillation_loss(**arguments, **options, spec=spec, t=0.0)
        if implementation == "fused":
            assert all((gradient == 0).all() for gradient in gradients(at_rest, arguments).values())
        assert at_rest.loss.abs() < 1e-12
        arrived = distillation_loss(**arguments, **options, spec=spec, t=1.0)
        direct = distillation_loss(**arguments, **options, spec=alone)
        assert torch.equal(arrived.loss, direct.loss)
        for leaf, gradient in gradients(direct, arguments).items():
            assert torch.equal(gradients(arrived, arguments)[leaf], gradient)


@every_loss
def test_a_common_offset_of_a_models_logits_changes_nothing(name: str) -> None:
    spec, arguments = SPECS[name], case(6, 9)
    more = extras(spec, 6)
    first = distillation_loss(**arguments, **more, spec=spec, t=0.4)
    moved = dict(arguments)
    with torch.no_grad():
        moved["student_bias"] = (arguments["student_bias"] + 7.0).requires_grad_()
        moved["teacher_bias"] = arguments["teacher_bias"] - 3.0
    second = distillation_loss(**moved, **more, spec=spec, t=0.4)
    torch.testing.assert_close(first.loss, second.loss)
    for leaf, gradient in gradients(first, arguments).items():
        torch.testing.assert_close(gradients(second, moved)[leaf], gradient)


@every_loss
def test_the_order_of_the_vocabulary_does_not_matter(name: str) -> None:
    """A mask in the order of another sort, as in the authors' Adaptive KL, would show here."""
    spec, arguments = SPECS[name], case(6, 9)
    more, order = extras(spec, 6), torch.randperm(9, generator=torch.Generator().manual_seed(5))
    shuffled = dict(arguments)
    for leaf in ("student_head_VH", "student_bias", "teacher_head_UD", "teacher_bias"):
        shuffled[leaf] = arguments[leaf].detach()[order].requires_grad_()
    shuffled["labels_N"] = order.argsort()[arguments["labels_N"]]
    for implementation in ("fused", "plain"):
        first, second = (
            distillation_loss(**given, **more, spec=spec, t=0.4, implementation=implementation)
            for given in (arguments, shuffled)
        )
        torch.testing.assert_close(first.loss, second.loss)
        mine, theirs = gradients(first, arguments), gradients(second, shuffled)
        torch.testing.assert_close(theirs["student_head_VH"], mine["student_head_VH"][order])
        torch.testing.assert_close(theirs["student_hidden_NH"], mine["student_hidden_NH"])


@every_loss
@pytest.mark.parametrize("t", [0.3, 1.0])
def test_huge_logits_stay_finite(name: str, t: float) -> None:
    spec = SPECS[name]
    arguments = case(8, 11, scale=1e4, dtype=torch.float32)
    more = extras(spec, 8, torch.float32)
    fused, plain = both(arguments, **more, spec=spec, t=t, chunk_bytes=rows_per_chunk(3, 11, itemsize=4))
    for output in (fused, plain):
        assert output.loss.isfinite()
        assert all(value.isfinite() for value in output.sums.values())
        assert all(gradient.isfinite().all() for gradient in gradients(output, arguments).values())
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-4, atol=0.5)
    theirs = gradients(plain, arguments)
    for leaf, ours in gradients(fused, arguments).items():
        assert (ours - theirs[leaf]).norm() <= 5e-3 * theirs[leaf].norm() + 1e-2, leaf


@every_loss
@pytest.mark.parametrize("whose", ["teacher_bias", "student_bias", "both"])
def test_impossible_tokens(name: str, whose: str) -> None:
    """-inf entries: fused and plain agree, infinite where the definition is, and NaN nowhere."""
    spec, arguments = SPECS[name], case(7, 9)
    arguments["labels_N"][:] = 3
    more = extras(spec, 7)
    with torch.no_grad():
        for leaf in ("teacher_bias", "student_bias") if whose == "both" else (whose,):
            arguments[leaf][[2, 5]] = -math.inf
    fused, plain = both(arguments, **more, spec=spec, t=0.4, chunk_bytes=rows_per_chunk(2, 9))
    assert not plain.loss.isnan()
    torch.testing.assert_close(fused.loss, plain.loss)
    for figure, value in plain.sums.items():
        assert not value.isnan(), figure
        torch.testing.assert_close(fused.sums[figure], value)
    if plain.loss.isfinite():
        theirs = gradients(plain, arguments)
        for leaf, ours in gradients(fused, arguments).items():
            assert not theirs[leaf].isnan().any()
            torch.testing.assert_close(ours, theirs[leaf])
    if whose == "both":
        assert plain.loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(plain, arguments).values())


@every_loss
def test_broken_logits_give_a_broken_loss(name: str) -> None:
    spec, arguments = SPECS[name], case(5, 9)
    with torch.no_grad():
        arguments["student_hidden_NH"][3, 0] = math.nan
    for output in both(arguments, **extras(spec, 5), spec=spec, t=0.4, on_nan="return"):
        assert output.loss.isnan()


@every_loss
@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_the_teacher_gets_no_gradient(name: str, implementation: str) -> None:
    spec, arguments = SPECS[name], case(5, 9)
    output = distillation_loss(**arguments, **extras(spec, 5), spec=spec, t=0.4, implementation=implementation)
    output.loss.backward()
    assert all(value.grad is None for leaf, value in arguments.items() if leaf.startswith("teacher"))
    assert all(arguments[leaf].grad is not None for leaf in STUDENT)


@every_loss
def test_under_autocast(name: str) -> None:
    spec = SPECS[name]
    arguments = case(20, 30, width=16, dtype=torch.float32, scale=0.3)
    more = extras(spec, 20, torch.float32)
    exact = distillation_loss(**arguments, **more, spec=spec, t=0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused, plain = both(arguments, **more, spec=spec, t=0.4, chunk_bytes=rows_per_chunk(7, 30, itemsize=2))
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-4, atol=1e-5)  # the same logits, rounded the same way
    torch.testing.assert_close(fused.loss, exact.loss, rtol=3e-2, atol=1e-3)
    reference = gradients(exact, arguments)
    for leaf, ours in gradients(fused, arguments).items():
        assert ours.dtype == torch.float32
        assert (ours - reference[leaf]).norm() < 0.03 * reference[leaf].norm(), leaf


@every_loss
def test_without_gradients(name: str) -> None:
    spec, arguments = SPECS[name], case(5, 9)
    more = extras(spec, 5)
    reference = distillation_loss(**arguments, **more, spec=spec, t=0.4)
    with torch.no_grad():
        output = distillation_loss(**arguments, **more, spec=spec, t=0.4)
    assert not output.loss.requires_grad
    torch.testing.assert_close(output.loss, reference.loss.detach())


@every_loss
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    spec = SPECS[name]
    arguments = {
        leaf: value.detach().cuda().requires_grad_(value.requires_grad)
        for leaf, value in case(33, 70, 66, width=16, dtype=dtype, scale=0.3).items()
    }
    more = {
        extra: None if value is None else value.detach().cuda().requires_grad_(value.requires_grad)
        for extra, value in extras(spec, 33, torch.float32).items()
    }
    fused, plain = both(arguments, **more, spec=spec, t=0.4, vocabulary=64, chunk_bytes=rows_per_chunk(8, 70, 64))
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-2, atol=1e-3)
    theirs = gradients(plain, arguments)
    for leaf, ours in gradients(fused, arguments).items():
        assert (ours - theirs[leaf]).norm() < 0.02 * theirs[leaf].norm(), leaf


def test_from_compiled_code() -> None:
    arguments = case(9, 11)
    spec = SPECS["taid-rkl"]
    leaves = [arguments[leaf] for leaf in STUDENT]

    def loss(hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        changed = {**arguments, **dict(zip(STUDENT, (hidden * 2, head, bias), strict=True))}
        return distillation_loss(**changed, spec=spec, t=0.4).loss * 3

    found = [
        torch.autograd.grad(function(*leaves), leaves) for function in (loss, torch.compile(loss, backend="aot_eager"))
    ]
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_the_compiler_is_imported_at_the_first_call() -> None:
    # It takes longer than the rest of the package, and a plan or a report calls no loss.
    program = "import sys, taid_vlm.losses\nassert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_part_of_the_loop_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, usual = [], fused._in_chunks

    def spy(*arguments: Any) -> LossOutput:
        traced.append(torch.compiler.is_compiling())
        return usual(*arguments)

    monkeypatch.setattr(fused, "_in_chunks", spy)
    arguments = case(9, 11)

    def loss(hidden: torch.Tensor) -> torch.Tensor:
        return distillation_loss(**{**arguments, "student_hidden_NH": hidden * 2}, spec=SPECS["kl"]).loss

    fused._untraced.cache_clear()  # as in a process whose first call comes from compiled code
    compiled = torch.compile(loss, backend="eager")
    for _ in range(2):
        compiled(arguments["student_hidden_NH"])
    fused._untraced.cache_clear()
    assert set(traced) == {False}
