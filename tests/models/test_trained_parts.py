"""What learns: adapters on either part, only where they can learn; merged exactly, saved and reloaded to the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.models import Student, build_student, load_student, save_student
from taid_vlm.models.lora import adapted_layers
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.trained_parts import merge_lora, parameters_by_part, trained_state
from tests.tiny.language_model import save_tiny_language_model
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers

LORA = {"mode": "lora", "lora": {"rank": 2, "alpha": 4}}
BOTH = {"vision_encoder": LORA, "language_model": LORA}


def spec(language_model: Path, train: dict[str, Any], **encoder: Any) -> StudentSpec:
    vision = {"library": "timm", "name": "test_vit", "weights": "random", "image_size": 64, **encoder}
    content = {
        "vision_encoder": vision,
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model), "layers": 2},
        "image_token": "<empty_output>",
        "train": train,
    }
    return StudentSpec.model_validate(content)


def made(language_model: Path, train: dict[str, Any], **encoder: Any) -> Student:
    return build_student(spec(language_model, train, **encoder))[0]


def pixels(student: Student, pictures: int = 1) -> torch.Tensor:
    assert student.vision_encoder is not None
    size = student.vision_encoder.contract.image.size
    return torch.randn(pictures, 3, size, size, generator=torch.Generator().manual_seed(0))


def run(student: Student) -> torch.Tensor:
    assert student.projector is not None
    tokens = student.projector.tokens_out()  # type: ignore[operator]
    ids = torch.tensor([[5, *[student.image_token_id] * tokens, 9, 10]])
    return student(ModelInputs(ids, torch.ones_like(ids), torch.arange(ids.shape[1]), pixels(student)))


def moved(student: Student) -> Student:
    """Stands for training: B of an adapter is zero at first, so that it does nothing."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return student.eval()


def test_all_is_every_linear_layer_but_the_head(language_model: Path) -> None:
    student = made(language_model, BOTH)
    adapted = {part: adapted_layers(getattr(student, part)) for part in ("vision_encoder", "language_model")}
    last = {name.rpartition(".")[2] for name in adapted["language_model"]}
    assert last == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(adapted["language_model"]) == 2 * 7
    assert {name.rpartition(".")[2] for name in adapted["vision_encoder"]} == {"qkv", "proj", "fc1", "fc2"}
    assert type(student.head) is nn.Linear
    learning = {name for name, p in student.named_parameters() if p.requires_grad}
    assert all(".lora_" in name or name.startswith("projector.") for name in learning)
    assert trained_state(student).keys() >= learning


def test_every_adapter_gets_a_gradient(language_model: Path, tmp_path: Path) -> None:
    encoders: list[dict[str, Any]] = [
        {},
        {"name": "test_convnext"},
        {"library": "open_clip", "name": add_tiny_open_clip(tmp_path), "image_size": 32},
        {
            "library": "transformers",
            "name": str(save_tiny_transformers(tmp_path / "siglip", "siglip")),
            "image_size": 32,
        },
        {"library": "transformers", "name": str(save_tiny_transformers(tmp_path / "clip", "clip")), "image_size": 32},
    ]
    for encoder in encoders:
        student = moved(made(language_model, BOTH, **encoder)).train()
        run(student).square().sum().backward()
        for name, parameter in student.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, (encoder, name)
            if parameter.grad is not None:
                assert parameter.grad.abs().sum() > 0, (encoder, name)
        assert adapted_layers(student.vision_encoder)  # type: ignore[arg-type]


def test_an_attention_layer_that_is_not_called_keeps_its_weights(language_model: Path, tmp_path: Path) -> None:
    encoder = {"library": "open_clip", "name": add_tiny_open_clip(tmp_path), "image_size": 32}
    student = made(language_model, {"vision_encoder": LORA}, **encoder)
    assert student.vision_encoder is not None
    names = {name.rpartition(".")[2] for name in adapted_layers(student.vision_encoder)}
    assert names == {"c_fc", "c_proj"}
    attention = [m for m in student.vision_encoder.modules() if isinstance(m, nn.MultiheadAttention)]
    assert attention
    assert not any(p.requires_grad for m in attention for p in m.parameters())
    train = {"vision_encoder": {"mode": "lora", "lora": {"targets": ["out_proj"]}}}
    with pytest.raises(
        UserError, match=r"LoRA targets \['out_proj'\] are not linear layers of the vision encoder that"
    ):
        made(language_model, train, **encoder)


def test_layers_behind_the_features_get_no_adapter(language_model: Path, tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "siglip", "siglip")
    student = made(language_model, {"vision_encoder": LORA}, library="transformers", name=str(folder), image_size=32)
    assert student.vision_encoder is not None
    assert any(".head." in name for name, _ in student.vision_encoder.named_modules())  # a pooling head is there
    assert not any(".head." in name for name in adapted_layers(student.vision_encoder))


def test_chosen_targets_only(language_model: Path) -> None:
    train = {part: {"mode": "lora", "lora": {"rank": 3, "targets": t}} for part, t in
             (("vision_encoder", ["qkv", "fc2"]), ("language_model", ["q_proj"]))}  # fmt: skip
    student = made(language_model, train)
    assert {n.rpartition(".")[2] for n in adapted_layers(student)} == {"qkv", "fc2", "q_proj"}
    for target in ("lm_head", "q_prj"):
        train["language_model"]["lora"]["targets"] = [target]  # type: ignore[index]
        with pytest.raises(
            UserError, match=rf"LoRA targets \['{target}'\] .* of the language model .* it has \['down_proj'"
        ):
            made(language_model, train)


def test_an_encoder_without_linear_layers_says_so(language_model: Path) -> None:
    with pytest.raises(
        UserError, match=r"vision encoder has no linear layer that LoRA could adapt; set its mode to full"
    ):
        made(language_model, {"vision_encoder": LORA}, name="test_resnet")


@pytest.mark.parametrize("family", ["phi3", "gpt_neox", "lfm2"])
def test_other_families_have_other_linear_layers(family: str, tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path / family, family)
    content = {"language_model": {"source": str(folder)}, "train": {"language_model": LORA}}
    student, _ = build_student(StudentSpec.model_validate(content))
    adapted = adapted_layers(student.language_model)
    assert len(adapted) >= 3 * 4
    assert not any(layer.get_base_layer() is student.head for layer in adapted.values())


def test_merging_changes_nothing_and_leaves_nothing(language_model: Path) -> None:
    student = moved(made(language_model, BOTH))
    plain = made(language_model, {})
    with torch.no_grad():
        expected = run(student)
        assert not torch.allclose(expected, run(plain.eval()), atol=1e-3)
        merge_lora(student)
        torch.testing.assert_close(run(student), expected, rtol=1e-4, atol=1e-5)
    assert student.state_dict().keys() == plain.state_dict().keys()
    assert not adapted_layers(student)


@pytest.mark.parametrize("weights", ["full", "trained"])
@pytest.mark.parametrize("encoder", [{}, {"name": "test_convnext"}], ids=["vit", "cnn"])
def test_adapters_of_both_parts_are_saved_and_reloaded(
    tmp_path: Path, language_model: Path, weights: Any, encoder: dict[str, str]
) -> None:
    wanted = spec(language_model, BOTH, **encoder)
    student, processor = build_student(wanted)
    moved(student)
    kept = {name: tensor.clone() for name, tensor in trained_state(student).items()}
    save_student(student, processor, wanted, tmp_path / "saved", weights=weights)
    if weights == "trained":
        apart = load_student(tmp_path / "saved", merge=False).student
        assert {n: p for n, p in trained_state(apart).items() if not torch.equal(p, kept[n])} == {}
        with torch.no_grad():
            assert torch.equal(run(apart), run(student))
        merge_lora(student)
    loaded = load_student(tmp_path / "saved").student
    assert not adapted_layers(loaded)
    with torch.no_grad():
        assert torch.equal(run(loaded), run(student))


def test_parts_are_told_by_what_they_train(language_model: Path) -> None:
    student = made(language_model, {"vision_encoder": LORA, "language_model": {"mode": "frozen"}})
    table = parameters_by_part(student)
    assert list(table) == ["vision_encoder", "projector", "language_model"]
    assert 0 < table["vision_encoder"][0] < table["vision_encoder"][1]
    assert table["projector"][0] == table["projector"][1]
    assert table["language_model"][0] == 0 < table["language_model"][1]
