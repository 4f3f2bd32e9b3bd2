"""The Triton kernels against the plain form: on a GPU as they are, elsewhere by Triton's interpreter."""

import builtins
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.losses import LossSpec, TopK, chunks, distillation_loss, triton_tile
from tests.losses.cases import (
    STUDENT,
    assert_equal_outputs,
    both,
    case,
    gradients,
    rows_per_chunk,
    without_teacher,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
pytest.importorskip("triton", reason="needs Triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a CUDA device or TRITON_INTERPRET=1", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SPECS = {
    **{name: LossSpec.of(name) for name in ("sft", "taid", "kl", "rkl", "tvd", "jsd", "sfkl", "srkl", "ab", "todi")},
    "jsd-0": LossSpec.of("jsd", beta=0.0),
    "jsd-1": LossSpec.of("jsd", beta=1.0),
    "ab-forward": LossSpec.of("ab", alpha=1.0, beta=0.0),
    "ab-reverse": LossSpec.of("ab", alpha=0.0, beta=1.0),
    "distillm2": LossSpec.of("distillm2", skew=0.2, student_weight=1.5),
    "taid-rkl": LossSpec.of("taid", divergence="rkl"),
    "taid-jsd-ce": LossSpec.of("taid", kd_weight=0.7, ce_weight=0.3, divergence="jsd"),
    "kl-ce": LossSpec.of("kl", kd_weight=0.7, ce_weight=0.4),
    "ce-and-watch": LossSpec("kl", 0.0, 0.5),
}


@pytest.fixture(autouse=True)
def kernels_run_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernels are taken on this device, and it is counted that they were."""
    monkeypatch.setattr(triton_tile, "DEVICES", (DEVICE,))
    monkeypatch.setattr(triton_tile, "BLOCK", 16)  # several blocks for a tiny vocabulary
    taken: list[int] = []
    sums = triton_tile.TritonTile.sums
    monkeypatch.setattr(triton_tile.TritonTile, "sums", lambda *given: (taken.append(1), sums(*given))[1])
    return taken


def on_device(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().to(DEVICE).requires_grad_(value.requires_grad) for name, value in arguments.items()}


def written(spec: LossSpec, rows: int) -> torch.Tensor | None:
    if spec.divergence != "distillm2":
        return None
    return (torch.arange(rows) % 3 == 1).to(DEVICE)


def compare(spec: LossSpec, arguments: dict[str, Any], tolerance: dict[str, float], **options: Any) -> None:
    rows = len(arguments["labels_N"])
    fused, plain = both(arguments, spec=spec, student_written_N=written(spec, rows), **options)
    assert_equal_outputs(fused, plain, arguments, **tolerance)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(list(SPECS)),
    rows=st.integers(0, 5),
    vocabulary=st.integers(2, 40),
    extra=st.integers(-2, 2),
    cut=st.integers(0, 5),
    t=st.sampled_from([0.0, 0.3, 1.0]),
    bias=st.booleans(),
    softcap=st.sampled_from([None, 3.0]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    chunk_rows=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_kernels_are_plain(name, rows, vocabulary, extra, cut, t, bias, softcap, scale, chunk_rows, seed) -> None:
    others = max(2, vocabulary + extra)
    shared = max(2, min(vocabulary, others) - cut)
    arguments = on_device(case(rows, vocabulary, others, bias=bias, dtype=torch.float32, seed=seed, scale=scale))
    compare(
        SPECS[name],
        arguments,
        {"rtol": 2e-3, "atol": 2e-3},
        t=t,
        vocabulary=shared,
        student_scale=0.7,
        student_softcap=softcap,
        teacher_softcap=softcap,
        chunk_bytes=rows_per_chunk(chunk_rows, vocabulary, shared, 3),
    )


@pytest.mark.parametrize("name", SPECS)
def test_every_kernel_was_taken(name: str, kernels_run_here: list[int]) -> None:
    spec = SPECS[name]
    compare(spec, on_device(case(4, 37, dtype=torch.float32)), {"rtol": 1e-4, "atol": 1e-5}, t=0.4)
    assert kernels_run_here


@pytest.mark.parametrize("tail", ["uniform", "none"])
@pytest.mark.parametrize("name", SPECS)
def test_a_teacher_of_few_tokens(name: str, tail: str) -> None:
    """Chunks of two rows and one of one, in the same memory."""
    spec, arguments = SPECS[name], without_teacher(on_device(case(5, 37, dtype=torch.float32)))
    if tail == "none" and not spec.finite_without_support:
        return
    logits = 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    topk = TopK.of(logits.to(DEVICE), 6, tail)
    options = {"teacher_topk": topk, "t": 0.4, "chunk_bytes": rows_per_chunk(2, 37, 37, 4)}
    compare(spec, arguments, {"rtol": 1e-4, "atol": 1e-5}, **options)


@pytest.mark.parametrize("name", ["taid", "rkl", "jsd", "kl-ce"])
def test_half_precision(name: str) -> None:
    arguments = on_device(case(12, 50, width=16, dtype=torch.bfloat16, scale=0.3))
    exact = {
        key: value.detach().double().requires_grad_() if value.is_floating_point() else value
        for key, value in arguments.items()
    }
    output = distillation_loss(**arguments, spec=SPECS[name], t=0.4)
    reference = distillation_loss(**exact, spec=SPECS[name], t=0.4, implementation="plain")
    torch.testing.assert_close(output.loss.double(), reference.loss, rtol=2e-2, atol=0)
    theirs = gradients(reference, exact)
    for leaf, ours in gradients(output, arguments).items():
        assert ours.dtype == torch.bfloat16
        assert (ours.double() - theirs[leaf]).norm() < 0.02 * theirs[leaf].norm(), leaf


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("whose", ["teacher_bias", "student_bias", "both"])
def test_impossible_tokens(name: str, whose: str) -> None:
    spec, arguments = SPECS[name], on_device(case(5, 37, dtype=torch.float32))
    arguments["labels_N"][:] = 3
    with torch.no_grad():
        for leaf in ("teacher_bias", "student_bias") if whose == "both" else (whose,):
            arguments[leaf][[2, 20]] = -math.inf
    fused, plain = both(arguments, spec=spec, t=0.4, student_written_N=written(spec, 5))
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-4, atol=1e-5)
    for figure, value in plain.sums.items():
        torch.testing.assert_close(fused.sums[figure], value, rtol=1e-4, atol=1e-5)
    if plain.loss.isfinite():
        theirs = gradients(plain, arguments)
        for leaf, ours in gradients(fused, arguments).items():
            torch.testing.assert_close(ours, theirs[leaf], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_huge_logits_and_offsets(name: str) -> None:
    spec, arguments = SPECS[name], on_device(case(5, 37, scale=1e4, dtype=torch.float32))
    fused, plain = both(arguments, spec=spec, t=0.4, student_written_N=written(spec, 5))
    assert fused.loss.isfinite()
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-4, atol=0.5)
    theirs = gradients(plain, arguments)
    for leaf, ours in gradients(fused, arguments).items():
        assert (ours - theirs[leaf]).norm() <= 5e-3 * theirs[leaf].norm() + 1e-2, leaf
    # An offset of every logit costs only the digits that the logits themselves lose to it.
    near = on_device(case(5, 37, dtype=torch.float32))
    before = distillation_loss(**near, spec=spec, t=0.4, student_written_N=written(spec, 5))
    with torch.no_grad():
        near["student_bias"] += 1000.0
        near["teacher_bias"] -= 500.0
    after = distillation_loss(**near, spec=spec, t=0.4, student_written_N=written(spec, 5))
    torch.testing.assert_close(after.loss, before.loss, rtol=1e-3, atol=1e-3)


def test_broken_logits_give_a_broken_loss() -> None:
    arguments = on_device(case(5, 37, dtype=torch.float32))
    with torch.no_grad():
        arguments["student_hidden_NH"][3, 0] = math.nan
    for spec in SPECS.values():
        output = distillation_loss(**arguments, spec=spec, t=0.4, student_written_N=written(spec, 5), on_nan="return")
        assert output.loss.isnan()


@pytest.mark.parametrize("name", ["taid", "taid-rkl", "taid-jsd-ce"])
def test_t_zero_moves_nothing(name: str) -> None:
    spec = LossSpec.of("taid", divergence=SPECS[name].divergence)
    arguments = on_device(case(5, 37, dtype=torch.float32))
    output = distillation_loss(**arguments, spec=spec, t=0.0)
    assert output.loss == 0
    assert all((gradient == 0).all() for gradient in gradients(output, arguments).values())


@pytest.mark.parametrize("name", ["adaptive_kl", "dkd", "amid"])
def test_the_others_go_another_way(name: str, kernels_run_here: list[int]) -> None:
    arguments = on_device(case(5, 37, dtype=torch.float32))
    output = distillation_loss(**arguments, spec=LossSpec.of(name))
    assert output.loss.isfinite()
    assert set(gradients(output, arguments)) == set(STUDENT)
    assert not kernels_run_here


def test_without_triton_it_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if "triton_kernels" in name or (rest and rest[2] and "triton_kernels" in rest[2]):
            raise ImportError("No module named 'triton'")
        return imported(name, *rest)

    arguments = on_device(case(5, 37, dtype=torch.float32))
    expected = distillation_loss(**arguments, spec=SPECS["taid"], t=0.4)
    triton_tile._kernels.cache_clear()
    monkeypatch.setattr(builtins, "__import__", absent)
    try:
        with pytest.warns(UserWarning, match="pip install triton"):
            output = distillation_loss(**arguments, spec=SPECS["taid"], t=0.4)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            distillation_loss(**arguments, spec=SPECS["taid"], t=0.4)
    finally:
        triton_tile._kernels.cache_clear()
    torch.testing.assert_close(output.loss, expected.loss)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    """The interpreter takes what a compiler would refuse, so an A100 and an H100 are compiled for as well."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(Path(__file__).parent / "compile_kernels.py"), str(capability)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.stdout.endswith("compiled\n"), done.stderr[-3000:]


def test_the_whole_budget_goes_to_the_logits() -> None:
    from taid_vlm.losses.inputs import Head, check_inputs

    arguments = case(64, 50, dtype=torch.float32)
    student = Head(arguments["student_hidden_NH"], arguments["student_head_VH"])
    teacher = Head(arguments["teacher_hidden_ND"], arguments["teacher_head_UD"])
    inputs = check_inputs(student, teacher, arguments["labels_N"], None, SPECS["taid"], 0.4)
    assert chunks.plan_chunk(inputs, torch.bfloat16, 16 * 2 * 100) == 16
