"""The fused loss against the plain one, values and gradients, and what the fused one must not do."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LossSpec, cross_entropy, distillation_loss, forward_kl, taid
from tests.losses.cases import STUDENT, assert_equal_outputs, both, case, gradients, rows_per_chunk, without_teacher

KL, TAID, SFT = LossSpec.of("kl"), LossSpec.of("taid"), LossSpec.of("sft")
MIXED = LossSpec.of("taid", kd_weight=0.7, ce_weight=0.4)


@settings(deadline=None, max_examples=80)
@given(
    rows=st.integers(0, 9),
    vocabulary=st.integers(2, 12),
    extra=st.integers(-3, 3),
    cut=st.integers(0, 3),
    spec=st.sampled_from([KL, TAID, SFT, MIXED, LossSpec("kl", 0.0, 0.5), LossSpec("kl", 2.0, 1.0)]),
    t=st.sampled_from([0.0, 1e-3, 0.4, 0.77, 1.0]),
    bias=st.booleans(),
    chunk_rows=st.integers(1, 10),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    seed=st.integers(0, 10_000),
)
def test_fused_is_plain(rows, vocabulary, extra, cut, spec, t, bias, chunk_rows, dtype, scale, seed) -> None:
    others = max(2, vocabulary + extra)
    arguments = case(rows, vocabulary, others, bias=bias, dtype=dtype, seed=seed, scale=scale)
    shared = max(1, min(vocabulary, others) - cut)
    budget = rows_per_chunk(chunk_rows, vocabulary, shared, dtype.itemsize)
    fused, plain = both(arguments, spec=spec, t=t, vocabulary=shared, chunk_bytes=budget)
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 2e-4}
    assert_equal_outputs(fused, plain, arguments, **tolerance)


@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_sums_are_the_row_functions(implementation: str) -> None:
    arguments = case(vocabulary=11, teacher_vocabulary=9)
    output = distillation_loss(**arguments, spec=MIXED, t=0.3, vocabulary=8, implementation=implementation)
    student = arguments["student_hidden_NH"] @ arguments["student_head_VH"].T + arguments["student_bias"]
    teacher = arguments["teacher_hidden_ND"] @ arguments["teacher_head_UD"].T + arguments["teacher_bias"]
    shared, teacher = student[:, :8], teacher[:, :8]
    target = (0.7 * shared + 0.3 * teacher).softmax(-1)
    expected = {
        "cross_entropy": cross_entropy(student, arguments["labels_N"]).sum(),  # all 11 columns
        "kl_target": taid(shared, teacher, 0.3).sum(),
        "ce_target": -(target * shared.log_softmax(-1)).sum(),
        "kl_teacher": forward_kl(shared, teacher).sum(),
        "agreement": (shared.argmax(-1) == teacher.argmax(-1)).sum().double(),
        "student_entropy": torch.distributions.Categorical(logits=shared).entropy().sum(),
        "teacher_entropy": torch.distributions.Categorical(logits=teacher).entropy().sum(),
        "kd": taid(shared, teacher, 0.3).sum(),
    }
    assert output.sums.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(output.sums[name], value.detach())
    torch.testing.assert_close(output.loss, 0.7 * expected["kl_target"] + 0.4 * expected["cross_entropy"])
    assert output.rows == 13
    assert 0 < output.sums["agreement"] < 13


def test_gradients_agree_with_finite_differences() -> None:
    arguments = case(3, 4, width=2)
    inputs = tuple(arguments[name] for name in STUDENT)
    rest = {name: value.detach() for name, value in arguments.items() if name not in STUDENT}

    def loss(hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        spec = LossSpec("kl", 1.0, 0.5)
        return distillation_loss(
            hidden, head, student_bias=bias, spec=spec, chunk_bytes=rows_per_chunk(2, 4), **rest
        ).loss

    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("spec", [KL, TAID, SFT, MIXED])
def test_result_does_not_depend_on_the_chunk_size(spec: LossSpec) -> None:
    arguments = case(rows=13)
    reference = distillation_loss(**arguments, spec=spec, t=0.4, chunk_bytes=2**30)
    for chunk_rows in (1, 4, 13):
        other = distillation_loss(**arguments, spec=spec, t=0.4, chunk_bytes=rows_per_chunk(chunk_rows, 11))
        assert_equal_outputs(other, reference, arguments, rtol=1e-12, atol=1e-13)
    tiny = distillation_loss(**arguments, spec=spec, t=0.4, chunk_bytes=1)  # less than a row: one row at a time
    torch.testing.assert_close(tiny.loss, reference.loss)


@pytest.mark.parametrize("implementation", ["fused", "plain"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_t_zero_moves_nothing(implementation: str, dtype: torch.dtype) -> None:
    arguments = case(vocabulary=37, teacher_vocabulary=41, dtype=dtype)
    output = distillation_loss(
        **arguments,
        spec=TAID,
        t=0.0,
        vocabulary=31,
        implementation=implementation,
        chunk_bytes=rows_per_chunk(4, 37, 31, dtype.itemsize),
    )
    assert output.loss == 0
    assert all((gradient == 0).all() for gradient in gradients(output, arguments, 0.37).values())
    assert output.sums["kl_teacher"] > 0


@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_t_one_is_kl_and_kl_ignores_t(implementation: str) -> None:
    arguments = case()
    outputs = [
        distillation_loss(**arguments, spec=spec, t=t, implementation=implementation)
        for spec, t in ((TAID, 1.0), (KL, 1.0), (KL, 0.2))
    ]
    for output in outputs[1:]:
        assert torch.equal(output.loss, outputs[0].loss)
        for name, gradient in gradients(output, arguments).items():
            assert torch.equal(gradient, gradients(outputs[0], arguments)[name])


@pytest.mark.parametrize("spec", [SFT, TAID, MIXED])
@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_no_rows(spec: LossSpec, implementation: str) -> None:
    arguments = case(rows=0)
    output = distillation_loss(**arguments, spec=spec, t=0.5, implementation=implementation)
    assert output.loss == 0
    assert output.rows == 0
    assert all(value == 0 for value in output.sums.values())
    for name, gradient in gradients(output, arguments).items():
        assert gradient.shape == arguments[name].shape
        assert (gradient == 0).all()


@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_teacher_gets_no_gradient(implementation: str) -> None:
    arguments = case()
    distillation_loss(**arguments, spec=MIXED, t=0.5, implementation=implementation).loss.backward()
    assert all(arguments[name].grad is not None for name in STUDENT)
    assert all(value.grad is None for name, value in arguments.items() if name.startswith("teacher"))


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_impossible_tokens_of_the_teacher(t: float) -> None:
    arguments = case(dtype=torch.float32)
    with torch.no_grad():
        arguments["teacher_bias"][[2, 7]] = -math.inf
    fused, plain = both(arguments, spec=MIXED, t=t, chunk_bytes=rows_per_chunk(4, 11, itemsize=4))
    assert fused.loss.isfinite()
    assert all(value.isfinite() for value in fused.sums.values())
    assert all(gradient.isfinite().all() for gradient in gradients(fused, arguments).values())
    assert_equal_outputs(fused, plain, arguments, rtol=1e-5, atol=1e-5)


def test_impossible_tokens_of_the_student() -> None:
    arguments = case()
    arguments["labels_N"][:] = 3
    with torch.no_grad():
        arguments["student_bias"][5] = -math.inf
    # At t < 1 the target excludes the token too. kl_teacher is infinite, and must not reach the loss.
    fused, plain = both(arguments, spec=MIXED, t=0.4)
    assert fused.sums["kl_teacher"] == plain.sums["kl_teacher"] == math.inf
    assert_equal_outputs(fused, plain, arguments, rtol=1e-9, atol=1e-11)
    # An infinite term of weight 0 is no part of the loss: not 0 * inf.
    fused, plain = both(arguments, spec=SFT)
    assert fused.loss.isfinite()
    assert_equal_outputs(fused, plain, arguments, rtol=1e-9, atol=1e-11)
    arguments["labels_N"][0] = 5
    for output in both(arguments, spec=TAID, t=0.4):
        assert output.sums["cross_entropy"] == math.inf
        assert output.loss.isfinite()


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_huge_logits(t: float) -> None:
    arguments = case(scale=1e4, dtype=torch.float32)
    assert (arguments["student_hidden_NH"] @ arguments["student_head_VH"].T).abs().max() > 1e4
    fused, plain = both(arguments, spec=MIXED, t=t, chunk_bytes=rows_per_chunk(4, 11, itemsize=4))
    assert fused.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(fused, arguments).values())
    # The head multiplies gradients by 1e4 too, so compare them relative to that.
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-5, atol=0.1)
    theirs = gradients(plain, arguments)
    for name, ours in gradients(fused, arguments).items():
        size = 1e4 if name == "student_hidden_NH" else 1.0
        torch.testing.assert_close(ours / size, theirs[name] / size, rtol=1e-3, atol=1e-2)


def test_non_finite_hidden_states_come_out_as_a_non_finite_loss() -> None:
    arguments = case()
    with torch.no_grad():
        arguments["student_hidden_NH"][3, 0] = math.nan
    for output in both(arguments, spec=MIXED, t=0.5, on_nan="return"):
        assert output.loss.isnan()
    for implementation in ("fused", "plain"):
        message = r"the student's hidden states \[13, 6\] are not finite in 1 rows, the first \[3\].*skip the step"
        refused(message, arguments, implementation=implementation)
    teacher = case()
    with torch.no_grad():
        teacher["teacher_head_UD"][2] = math.nan
    refused(r"the teacher's head \[11, 9\] are not finite in 1 rows, the first \[2\]", teacher)
    alone = case(bias=True)
    with torch.no_grad():
        alone["student_bias"][:] = -math.inf
    refused("the loss is NaN: hidden states .* rule out every token", alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_exact(dtype: torch.dtype) -> None:
    arguments = case(rows=40, vocabulary=50, width=16, dtype=dtype, scale=0.3)
    exact = {
        name: value if name == "labels_N" else value.detach().double().requires_grad_()
        for name, value in arguments.items()
    }
    for implementation in ("fused", "plain"):
        output = distillation_loss(**arguments, spec=MIXED, t=0.4, implementation=implementation)
        reference = distillation_loss(**exact, spec=MIXED, t=0.4, implementation="plain")
        assert output.loss.dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in output.sums.values())
        torch.testing.assert_close(output.loss.double(), reference.loss, rtol=1e-2, atol=0)
        theirs = gradients(reference, exact)
        for name, ours in gradients(output, arguments).items():
            assert ours.dtype == dtype
            assert (ours.double() - theirs[name]).norm() < 0.02 * theirs[name].norm(), name


def test_the_factor_of_the_backward_is_not_rounded_to_half_precision() -> None:
    arguments = case(rows=8, vocabulary=300, width=16, dtype=torch.bfloat16)
    factor = 1.0039  # half way between two neighbours in bf16, 1 and 1.0078
    # Several chunks, so that the accumulated gradient is no bf16 number and its own rounding averages out.
    output = distillation_loss(**arguments, spec=KL, chunk_bytes=rows_per_chunk(1, 300, itemsize=2))
    whole, scaled = (gradients(output, arguments, f)["student_head_VH"].float().norm() for f in (1.0, factor))
    assert (scaled / whole).item() == pytest.approx(factor, abs=1e-3)


def test_head_gradient_accumulates_in_fp32() -> None:
    """Many chunks in bf16 must be as good as one: a bf16 accumulator would stop growing."""
    arguments = case(rows=128, vocabulary=5, width=4, bias=False, dtype=torch.bfloat16)
    few, many = (
        gradients(distillation_loss(**arguments, spec=SFT, chunk_bytes=rows_per_chunk(rows, 5, itemsize=2)), arguments)[
            "student_head_VH"
        ]
        for rows in (128, 1)
    )
    assert (few.float() - many.float()).norm() < 4e-3 * few.float().norm()


def test_autocast_runs_in_bf16_and_is_close() -> None:
    arguments = case(rows=30, vocabulary=40, width=16, dtype=torch.float32, scale=0.3)
    exact = distillation_loss(**arguments, spec=MIXED, t=0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused, plain = both(arguments, spec=MIXED, t=0.4, chunk_bytes=rows_per_chunk(7, 40, itemsize=2))
    assert fused.loss.dtype == torch.float32
    assert fused.loss != exact.loss  # it did run in bf16
    torch.testing.assert_close(fused.loss, exact.loss, rtol=1e-2, atol=0)
    # The same logits, rounded the same way.
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-6, atol=0)
    reference, theirs = gradients(exact, arguments), gradients(plain, arguments)
    for name, ours in gradients(fused, arguments).items():
        assert ours.dtype == torch.float32
        assert (ours - reference[name]).norm() < 0.02 * reference[name].norm()
        assert (ours - theirs[name]).norm() < 0.02 * theirs[name].norm()


class Watch(TorchDispatchMode):
    """Counts matrix products and remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.largest = 0
        self.casts: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        if function.overloadpacket == torch.ops.aten._to_copy:
            self.casts.append(tuple(result.shape))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_no_gradient_work_without_gradients() -> None:
    arguments = case(rows=12)
    options = {"spec": MIXED, "t": 0.4, "chunk_bytes": rows_per_chunk(4, 11)}  # three chunks
    reference = distillation_loss(**arguments, **options)
    with torch.no_grad(), Watch() as watch:
        output = distillation_loss(**arguments, **options)
    assert watch.products == 3 * 2  # the logits of both models, nothing else
    assert not output.loss.requires_grad
    assert torch.equal(output.loss, reference.loss)
    frozen = {name: value.detach() for name, value in arguments.items()}
    with Watch() as watch:
        output = distillation_loss(**frozen, **options)
    assert watch.products == 3 * 2
    assert not output.loss.requires_grad


def test_autocast_casts_a_head_once_not_once_per_chunk() -> None:
    arguments = case(rows=12, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), Watch() as watch:
        distillation_loss(**arguments, spec=MIXED, t=0.4, chunk_bytes=rows_per_chunk(4, 11, itemsize=2))
    assert watch.products == 3 * 4
    assert watch.casts.count((11, 6)) == watch.casts.count((11, 9)) == 1


@pytest.mark.parametrize(("trained", "products"), [(STUDENT, 4), (STUDENT[:1], 3), (STUDENT[1:2], 3), (STUDENT[2:], 2)])
def test_only_what_trains_costs(trained: tuple[str, ...], products: int) -> None:
    arguments = case(rows=12)
    expected = gradients(distillation_loss(**arguments, spec=MIXED, t=0.4, implementation="plain"), arguments)
    for name in set(STUDENT) - set(trained):
        arguments[name].requires_grad_(False)
    with Watch() as watch:
        output = distillation_loss(**arguments, spec=MIXED, t=0.4, chunk_bytes=rows_per_chunk(4, 11))
    assert watch.products == 3 * products
    output.loss.backward()
    for name in STUDENT:
        if name in trained:
            torch.testing.assert_close(arguments[name].grad, expected[name])
        else:
            assert arguments[name].grad is None


def test_nothing_of_rows_by_vocabulary_is_made_or_kept() -> None:
    rows, vocabulary, width, chunk = 64, 50, 4, 5
    arguments = case(rows, vocabulary, width=width)
    limit = max(chunk * vocabulary, rows * (width + 3), vocabulary * (width + 3))
    assert limit < rows * vocabulary / 5
    with Watch() as watch:
        output = distillation_loss(**arguments, spec=MIXED, t=0.4, chunk_bytes=rows_per_chunk(chunk, vocabulary))
    assert watch.largest <= limit
    saved = [tuple(tensor.shape) for tensor in output.loss.grad_fn.saved_tensors if tensor is not None]
    assert saved == [(rows, width), (vocabulary, width), (vocabulary,)]
    # The watch does see such a tensor where there is one.
    with Watch() as watch:
        distillation_loss(**arguments, spec=MIXED, t=0.4, implementation="plain")
    assert watch.largest == rows * vocabulary


def test_backward_can_run_twice() -> None:
    arguments = case()
    loss = distillation_loss(**arguments, spec=MIXED, t=0.4).loss
    inputs = [arguments[name] for name in STUDENT]
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    second = torch.autograd.grad(loss, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_tied_head_receives_both_gradients() -> None:
    """An embedding that is also the head: the two contributions must add up."""
    arguments = without_teacher(case(rows=9, bias=False))
    ids, table = torch.arange(9), arguments["student_head_VH"]
    found = []
    for implementation in ("fused", "plain"):
        output = distillation_loss(
            table[ids] * 2, table, arguments["labels_N"], spec=SFT, implementation=implementation
        )
        found.append(torch.autograd.grad(output.loss, table)[0])
    torch.testing.assert_close(found[0], found[1])


def test_sft_needs_no_teacher_and_reports_on_one_if_given() -> None:
    arguments = case()
    alone = distillation_loss(**without_teacher(arguments), spec=SFT)
    watched = distillation_loss(**arguments, spec=SFT, t=0.2)
    assert list(alone.sums) == ["cross_entropy", "student_entropy"]
    assert torch.equal(alone.loss, watched.loss)
    assert torch.equal(watched.sums["kl_target"], watched.sums["kl_teacher"])
    for name, gradient in gradients(watched, arguments).items():
        assert torch.equal(gradient, gradients(alone, arguments)[name])
    # A broken teacher spoils its metrics, not the training.
    broken = {**arguments, "teacher_hidden_ND": arguments["teacher_hidden_ND"].detach() * math.nan}
    for output in both(broken, spec=SFT):
        assert output.sums["kl_teacher"].isnan()
        torch.testing.assert_close(output.loss, alone.loss)
        for name, gradient in gradients(output, arguments).items():
            torch.testing.assert_close(gradient, gradients(alone, arguments)[name])


def test_padded_vocabulary_columns_do_not_change_distillation() -> None:
    arguments = case(vocabulary=11, bias=False)
    reference = distillation_loss(**arguments, spec=TAID, t=0.4)
    padded = dict(arguments)
    for name in ("student_head_VH", "teacher_head_UD"):
        extra = torch.full((3, arguments[name].shape[1]), 50.0, dtype=torch.float64)
        padded[name] = torch.cat([arguments[name].detach(), extra]).requires_grad_()
    output = distillation_loss(**padded, spec=TAID, t=0.4, vocabulary=11)
    torch.testing.assert_close(output.loss, reference.loss)
    gradient = gradients(output, padded)["student_head_VH"]
    torch.testing.assert_close(gradient[:11], gradients(reference, arguments)["student_head_VH"])
    assert (gradient[11:] == 0).all()


def test_labels_beyond_the_shared_vocabulary_are_fine() -> None:
    arguments = case(vocabulary=11, teacher_vocabulary=8)
    arguments["labels_N"][:] = 10
    fused, plain = both(arguments, spec=MIXED, t=0.4, vocabulary=8)
    assert_equal_outputs(fused, plain, arguments, rtol=1e-9, atol=1e-11)


def refused(message: str, arguments: dict[str, Any], **options: Any) -> None:
    with pytest.raises(UserError, match=message):
        distillation_loss(**arguments, **{"spec": TAID, "t": 0.4, **options})


@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_a_tie_of_the_student_agrees_with_either_choice(implementation: str) -> None:
    """Logits of 40 and 50 are both 2 below a soft cap of 2: the teacher's choice is one of the student's two."""
    identity = torch.eye(3)
    student = torch.tensor([[40.0, 50.0, 1.0], [50.0, 40.0, 1.0], [1.0, 2.0, 50.0]])
    output = distillation_loss(
        student,
        identity,
        torch.zeros(3, dtype=torch.long),
        teacher_hidden_ND=torch.tensor([[1.0, 3.0, 0.0]] * 3),
        teacher_head_UD=identity,
        student_softcap=2.0,
        spec=LossSpec.of("kl"),
        implementation=implementation,
    )
    assert output.sums["agreement"] == 2


def test_logits_that_differ_by_the_last_bit_are_no_tie() -> None:
    """Shifting both by logsumexp rounds them to the same number; agreement is told from the logits themselves."""
    top = torch.tensor(0.1)
    student = torch.stack([torch.nextafter(top, top - 1), top, top - 90]).unsqueeze(0)
    identity = torch.eye(3)
    arguments = {
        "student_hidden_NH": student,
        "student_head_VH": identity,
        "labels_N": torch.zeros(1, dtype=torch.long),
        "teacher_hidden_ND": torch.tensor([[3.0, 1.0, 0.0]]),
        "teacher_head_UD": identity,
    }
    for output in both(arguments, spec=LossSpec.of("kl")):
        assert output.sums["agreement"] == 0


def test_bad_arguments_are_refused() -> None:
    good = case()
    refused(r"'taid' got no teacher.*'sft'", without_teacher(good))
    refused("expected both or neither", {**good, "teacher_head_UD": None})
    refused("13 rows and the teacher 12", {**good, "teacher_hidden_ND": good["teacher_hidden_ND"][:12]})
    refused(r"\[12\], expected \[13\]", {**good, "labels_N": good["labels_N"][:12]})
    refused("span -100 to", {**good, "labels_N": good["labels_N"] * 0 - 100})
    refused("expected 0 to 10", {**good, "labels_N": good["labels_N"] * 0 + 11})
    refused(r"student.*\[13, 6\].*\[11, 5\]", {**good, "student_head_VH": good["student_head_VH"][:, :5]})
    refused(r"teacher.*\[13, 9\].*\[11, 4\]", {**good, "teacher_head_UD": good["teacher_head_UD"][:, :4]})
    refused(r"\[1, 13, 6\].*flatten", {**good, "student_hidden_NH": good["student_hidden_NH"][None]})
    refused(r"student bias.*\[10\]", {**good, "student_bias": good["student_bias"][:10]})
    refused(r"float32.*float64.*autocast", {**good, "student_hidden_NH": good["student_hidden_NH"].float()})
    refused("11 tokens and the teacher's 14: pass vocabulary=", case(teacher_vocabulary=14))
    refused("vocabulary is 12, expected 1 to 11", case(teacher_vocabulary=14), vocabulary=12)
    refused("vocabulary is 0", good, vocabulary=0)
    for t in (-0.01, 1.01, math.nan):
        refused("t is ", good, t=t)
    refused("chunk_bytes is 0", good, chunk_bytes=0)
    refused("did you mean 'fused'", good, implementation="fusd")
    refused("did you mean 'return'", good, on_nan="retrun")
    refused("student logit scale is 0", good, student_scale=0.0)
    refused("teacher logit softcap is -1", good, teacher_softcap=-1.0)
    refused("mass_rows is -1", good, mass_rows=-1)
    refused(r"student_written has shape \[2\].*\[13\] booleans", good, student_written_N=torch.ones(2).bool())


def test_loss_spec() -> None:
    assert (SFT.kd_weight, SFT.ce_weight, SFT.needs_teacher) == (0.0, 1.0, False)
    assert (KL.kd_weight, KL.ce_weight, KL.needs_teacher) == (1.0, 0.0, True)
    assert LossSpec.of("taid", ce_weight=0.5) == LossSpec("taid", 1.0, 0.5)
    assert (TAID.target_t(0.3), KL.target_t(0.3)) == (0.3, 1.0)
    for arguments, message in (
        (("tayd",), "did you mean 'taid'"),
        (("sft",), "no teacher"),
        (("kl", -1.0), "kd_weight is -1.0"),
        (("kl", 1.0, math.nan), "ce_weight is nan"),
        (("kl", 0.0, 0.0), "nothing to learn"),
    ):
        with pytest.raises(UserError, match=message):
            LossSpec(*arguments)
