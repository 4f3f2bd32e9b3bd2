"""``semantics: reference``: the answers of the TAID authors' code, by both forms of the loss."""

from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LossSpec, distillation_loss
from tests.losses.golden import GOLDEN, golden_inputs

NAMES = {"fkl": "kl", "js": "jsd", "skew_fkl": "sfkl", "skew_rkl": "srkl"}
OPTIONS = {"teacher_weight": "beta", "head_threshold": "mu", "target_weight": "skew"}


@pytest.mark.parametrize("implementation", ["fused", "plain"])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['kind']}-{case['inputs']['seed']}-{case['kwargs']}")
def test_answers_of_the_official_code(case: dict[str, Any], implementation: str) -> None:
    kind, options = case["kind"], dict(case["kwargs"])
    inputs = golden_inputs(case)
    student, mask = inputs["student"].requires_grad_(), inputs["mask"]
    vocabulary = student.shape[-1]
    t = options.pop("t", 1.0)
    options = {OPTIONS.get(name, name): value for name, value in options.items()}
    spec = LossSpec.of(NAMES.get(kind, kind), semantics="reference", **options)
    # Hidden states that are logits already: the head is the identity.
    output = distillation_loss(
        student[mask],
        torch.eye(vocabulary),
        inputs["labels"][mask],
        spec=spec,
        t=t,
        teacher_hidden_ND=inputs["teacher"][mask],
        teacher_head_UD=torch.eye(vocabulary),
        implementation=implementation,
        **({"chunk_bytes": 600} if implementation == "fused" else {}),
    )
    # Their DKD divides by all positions, the others by the supervised ones.
    loss = output.loss / (mask.numel() if kind == "dkd" else output.rows)
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    flat = torch.autograd.grad(loss, student)[0].flatten()
    assert flat.norm().item() == pytest.approx(case["grad_norm"], rel=1e-5, abs=1e-7)
    assert flat[:: flat.numel() // 7][:7].tolist() == pytest.approx(case["grad_sample"], rel=1e-5, abs=1e-7)


def test_every_method_of_the_official_code_is_among_the_cases() -> None:
    kinds = {NAMES.get(case["kind"], case["kind"]) for case in GOLDEN}
    assert kinds == {"taid", "kl", "rkl", "tvd", "jsd", "adaptive_kl", "sfkl", "srkl", "ctkd", "dkd"}


@pytest.mark.parametrize("name", ["ab", "amid", "todi", "distillm2"])
def test_methods_the_official_code_lacks_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="not in the TAID authors' code"):
        LossSpec.of(name, semantics="reference")
    with pytest.raises(UserError, match="not in the TAID authors' code"):
        LossSpec.of("taid", divergence="rkl", semantics="reference")


def test_reference_differs_where_the_official_code_is_at_fault() -> None:
    """Adaptive KL with a misaligned mask and DKD's beta are other losses, not other roundings."""
    case = next(case for case in GOLDEN if case["kind"] == "adaptive_kl")
    inputs = golden_inputs(case)
    rows, vocabulary = inputs["mask"], inputs["student"].shape[-1]
    values = [
        distillation_loss(
            inputs["student"][rows],
            torch.eye(vocabulary),
            inputs["labels"][rows],
            spec=LossSpec.of("adaptive_kl", semantics=semantics),
            teacher_hidden_ND=inputs["teacher"][rows],
            teacher_head_UD=torch.eye(vocabulary),
        ).loss.item()
        for semantics in ("paper", "reference")
    ]
    assert abs(values[0] - values[1]) > 0.1 * abs(values[1])
