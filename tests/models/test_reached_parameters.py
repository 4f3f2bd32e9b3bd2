"""A trained encoder learns where its features come from, and a batch without pictures touches the same parameters."""

from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.models import Student, build_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.trained_parts import told_parts
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers

TIMM = ["tiny_siglip", "tiny_siglip_gap", "tiny_clip", "tiny_dinov2_reg", "test_resnet"]
TOWERS = ["clip", "siglip", "siglip2_naflex", "dinov2", "vit", "internvl_vision", "aimv2", "idefics3_vision"]
CASES = [
    *[("timm", name, feature) for name in TIMM for feature in ("normed", -2)],
    *[("open_clip", kind, feature) for kind in ("vit", "timm", "resnet") for feature in ("normed", -2)],
    *[("transformers", kind, feature) for kind in TOWERS for feature in ("normed", -2)],
]


def made(folder: Path, language_model: Path, library: str, name: str, feature: Any, **train: Any) -> Student:
    encoder: dict[str, Any] = {"library": library, "name": name, "feature": feature, "image_size": 32}
    if library == "timm":
        encoder |= {"weights": "random", "image_size": 64 if name == "test_resnet" else 32}
    elif library == "open_clip":
        encoder |= {"name": add_tiny_open_clip(folder, name), "weights": "random"}
    else:
        encoder |= {"name": str(save_tiny_transformers(folder / name, name))}
    content = {
        "vision_encoder": encoder,
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model), "layers": 1},
        "image_token": "<empty_output>",
        "train": {"vision_encoder": {"mode": "full"}, **train},
    }
    return build_student(StudentSpec.model_validate(content))[0]


def with_pictures(student: Student) -> ModelInputs:
    assert student.vision_encoder is not None
    size = student.vision_encoder.contract.image.size
    tokens = student.projector.tokens_out()  # type: ignore[operator, union-attr]
    ids = torch.tensor([[5, *[student.image_token_id] * (2 * tokens), 9, 10]])
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return ModelInputs(ids, torch.ones_like(ids), torch.arange(ids.shape[1]), pixels)


def without_pictures() -> ModelInputs:
    ids = torch.tensor([[5, 9, 10]])
    return ModelInputs(ids, torch.ones_like(ids), torch.arange(3))


@pytest.mark.parametrize(("library", "name", "feature"), CASES)
def test_what_learns_gets_a_gradient_with_and_without_pictures(
    tmp_path: Path, language_model: Path, library: str, name: str, feature: Any
) -> None:
    student = made(tmp_path, language_model, library, name, feature).train()
    student(with_pictures(student)).square().sum().backward()
    encoder: Any = student.vision_encoder
    for called, parameter in student.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, called
    assert sum(p.requires_grad for p in encoder.parameters()) > 3
    student.zero_grad()
    before = {called: buffer.clone() for called, buffer in encoder.named_buffers()}
    student(without_pictures()).square().sum().backward()
    for called, parameter in student.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, called
        if called.startswith(("vision_encoder.", "projector.")) and parameter.grad is not None:
            assert not parameter.grad.any()
    assert all(torch.equal(buffer, before[called]) for called, buffer in encoder.named_buffers())
    assert encoder.training


def test_pooling_heads_last_norms_and_blocks_behind_the_feature_stay_frozen(
    tmp_path: Path, language_model: Path
) -> None:
    clip = made(tmp_path, language_model, "transformers", "clip", -2)
    learning = {name for name, p in clip.named_parameters() if p.requires_grad and name.startswith("vision")}
    assert not any("post_layernorm" in name or "layers.1." in name for name in learning)
    assert any("layers.0." in name for name in learning)
    siglip = made(tmp_path, language_model, "transformers", "siglip", "normed")
    frozen = {name for name, p in siglip.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(".head." in name for name in frozen)


def test_the_list_of_parts_says_what_is_left_out(tmp_path: Path, language_model: Path) -> None:
    siglip = made(tmp_path, language_model, "transformers", "siglip", "normed")
    lines = told_parts(siglip)
    assert len(lines) == 3
    assert "parameters are trained; the features do not depend on the others (" in lines[0]
    assert lines[0].endswith("head)")
    assert all(line.endswith("parameters are trained") for line in lines[1:])
    whole = made(tmp_path, language_model, "timm", "test_resnet", "normed")
    assert told_parts(whole)[0].endswith("parameters are trained")


def test_a_student_without_weights_frees_the_same_parameters(tmp_path: Path, language_model: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "clip", "clip")
    content = {
        "vision_encoder": {"library": "transformers", "name": str(folder), "image_size": 32, "feature": -2},
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model), "layers": 1},
        "image_token": "<empty_output>",
        "train": {"vision_encoder": {"mode": "full"}},
    }
    spec = StudentSpec.model_validate(content)
    real, empty = (build_student(spec, load_weights=loads)[0] for loads in (True, False))
    learning = [{name for name, p in s.named_parameters() if p.requires_grad} for s in (real, empty)]
    assert learning[0] == learning[1]


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_stored_features_need_no_encoder_for_a_batch_without_pictures(
    tmp_path: Path, language_model: Path, mode: str
) -> None:
    student = made(
        tmp_path,
        language_model,
        "timm",
        "tiny_vit",
        "normed",
        vision_encoder={"mode": "frozen"},
        projector={"mode": mode},
    ).train()
    student.vision_encoder.forward = None  # type: ignore[union-attr, method-assign]
    ids = torch.tensor([[5, 9, 10]])
    inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(3), image_features=torch.zeros(0, 1, 1))
    student(inputs).sum().backward()
    given = [p.grad for p in student.projector.parameters()]  # type: ignore[union-attr]
    assert all((g is not None and not g.any()) if mode == "full" else g is None for g in given)
