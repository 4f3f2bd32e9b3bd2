"""Encoders become towers of transformers that give the same features, block by block, or it is said why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from taid_vlm.common.errors import UserError
from taid_vlm.export.towers import conversions, convert_tower, feature_survives, why_not
from taid_vlm.models.encoders.from_transformers import patches
from taid_vlm.models.specs import VisionEncoderSpec
from taid_vlm.models.vision_encoder import VisionEncoder, build_vision_encoder
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers, shake

SIGLIPS = ("siglip_vision_model", "siglip2_vision_model", "smolvlm_vision", "idefics3_vision")
TRANSFORMERS = {
    "clip": ("clip_vision_model",),
    "siglip": SIGLIPS,
    "siglip_dual": SIGLIPS,
    "siglip2_naflex": SIGLIPS,
    "smolvlm_vision": SIGLIPS,
    "idefics3_vision": SIGLIPS,
    "dinov2": ("dinov2",),
    "dinov2_with_registers": ("dinov2_with_registers",),
    "dinov3_vit": ("dinov3_vit",),
    "vit": ("vit",),
    "internvl_vision": ("internvl_vision",),
    "aimv2": ("aimv2_vision_model",),
}
TIMM = {
    "tiny_siglip": (*SIGLIPS, "timm_wrapper"),
    "tiny_siglip_gap": (*SIGLIPS, "timm_wrapper"),
    "tiny_siglip_tanh": (*SIGLIPS, "timm_wrapper"),
    "tiny_clip": ("clip_vision_model", "timm_wrapper"),
    "tiny_clip_quickgelu": ("clip_vision_model", "timm_wrapper"),
    "tiny_dinov2": ("dinov2", "timm_wrapper"),
    "tiny_dinov2_reg": ("dinov2_with_registers", "timm_wrapper"),
    "tiny_deit3_reg": ("dinov2_with_registers", "timm_wrapper"),
    "tiny_vit": ("vit", "timm_wrapper"),
    "tiny_dinov3": ("timm_wrapper",),
    "test_vit2": ("timm_wrapper",),
    "test_convnext": ("timm_wrapper",),
    "test_resnet": ("timm_wrapper",),
    "test_efficientnet": ("timm_wrapper",),
    "test_mambaout": ("timm_wrapper",),
    "fastvit_t8": ("timm_wrapper",),
}
OPEN_CLIP = {
    "vit": ("clip_vision_model",),
    "quickgelu": ("clip_vision_model",),
    "timm": (*SIGLIPS, "timm_wrapper"),
    "resnet": (),
    "coca": (),
}


def build(library: str, name: Any, feature: Any = "normed", size: int = 32, meta: bool = False) -> VisionEncoder:
    weights = "pretrained" if library == "transformers" else "random"
    spec = VisionEncoderSpec.model_validate(
        {
            "library": library,
            "name": str(name),
            "weights": weights,
            "image_size": size,
            "feature": feature,
            "prefix_tokens": "keep",
        }
    )
    if meta:
        with torch.device("meta"):
            return build_vision_encoder(spec, load_weights=False)
    encoder = build_vision_encoder(spec)
    shake(encoder)
    return encoder


def pixels(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def stock(encoder: VisionEncoder, target: str, tmp_path: Path) -> PreTrainedModel:
    """The tower as somebody else's process gets it: config through its file, weights loaded strictly."""
    config, state = convert_tower(encoder, target)
    assert config.model_type == target
    config.save_pretrained(tmp_path / "config")
    tower = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path / "config"))
    tower.load_state_dict(state, strict=True)
    return tower.eval()


@torch.no_grad()
def difference(encoder: VisionEncoder, tower: PreTrainedModel, feature: Any, size: int = 32) -> float:
    """Largest difference between our feature and the stock tower's, in units of the largest value."""
    target = tower.config.model_type
    arguments = (
        patches(pixels(size), tower.config) if target == "siglip2_vision_model" else {"pixel_values": pixels(size)}
    )
    if feature == "normed":
        theirs = tower(**arguments).last_hidden_state
        if theirs.ndim == 4:
            theirs = theirs.flatten(1, 2) if encoder.contract.layout == "NHWC" else theirs.flatten(2).transpose(1, 2)
    else:
        theirs = tower(**arguments, output_hidden_states=True).hidden_states[feature]
    ours = encoder(pixels(size))
    assert ours.shape == theirs.shape
    assert ours.std() > 1e-2
    return float((ours - theirs).abs().max() / theirs.abs().max())


def check(library: str, name: Any, expected: tuple[str, ...], tmp_path: Path, size: int = 32) -> None:
    same = set()
    for feature in ("normed", -1, -2):
        encoder = build(library, name, feature, size)
        assert set(conversions(encoder)) == set(expected)
        for target in expected:
            if feature_survives(encoder, target):
                same.add((target, feature))
                found = difference(encoder, stock(encoder, target, tmp_path), feature, size)
                print(f"{library} {Path(str(name)).name} -> {target} {feature}: {found:.1e}")
                renamed = target in (encoder.contract.family, "timm_wrapper")
                assert found <= (0 if renamed else 1e-6), (target, feature)
    for target in expected:
        kept = [feature for kind, feature in sorted(same, key=str) if kind == target]
        if target == "timm_wrapper":
            assert kept == ["normed"]
        elif target == "clip_vision_model" and library != "transformers":
            assert kept == [-1, -2]
        else:
            assert len(kept) == 3


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_tower_of_transformers_is_renamed_or_rewritten(kind: str, tmp_path: Path) -> None:
    check("transformers", save_tiny_transformers(tmp_path / kind, kind), TRANSFORMERS[kind], tmp_path)


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_model_becomes_a_tower_of_transformers(name: str, tmp_path: Path) -> None:
    check("timm", name, TIMM[name], tmp_path, 32 if name.startswith("tiny") else 64)


@pytest.mark.parametrize("kind", ["vit", "quickgelu", "timm"])
def test_an_open_clip_tower_becomes_a_tower_of_transformers(kind: str, tmp_path: Path) -> None:
    check("open_clip", add_tiny_open_clip(tmp_path, kind), OPEN_CLIP[kind], tmp_path)


@pytest.mark.parametrize(
    "kind", ["clip", "siglip", "vit", "dinov2", "dinov2_with_registers", "internvl_vision", "dinov3_vit"]
)
def test_positions_are_written_for_the_size_that_was_trained_at(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / kind, kind)
    encoder = build("transformers", folder, -1, 48)
    tower = stock(encoder, encoder.contract.family, tmp_path)
    assert tower.config.image_size in (48, [48, 48], (48, 48))
    assert difference(encoder, tower, -1, 48) < 1e-6


@pytest.mark.parametrize("kind", ["siglip", "smolvlm_vision", "idefics3_vision"])
def test_siglip_at_another_size_becomes_every_siglip(kind: str, tmp_path: Path) -> None:
    encoder = build("transformers", save_tiny_transformers(tmp_path / kind, kind), "normed", 56)
    for target in SIGLIPS:
        assert difference(encoder, stock(encoder, target, tmp_path), "normed", 56) < 1e-6


def test_siglip_2_converts_at_its_base_grid_only(tmp_path: Path) -> None:
    encoder = build("transformers", save_tiny_transformers(tmp_path / "tower", "siglip2_naflex"), "normed", 48)
    assert conversions(encoder) == ("siglip2_vision_model",)
    assert difference(encoder, stock(encoder, "siglip2_vision_model", tmp_path), "normed", 48) == 0
    assert "36 patches, its positions are for 16" in str(why_not(encoder, "siglip_vision_model"))


@pytest.mark.parametrize(
    ("name", "target", "activation"),
    [
        ("tiny_siglip", "smolvlm_vision", "gelu"),
        ("tiny_siglip_tanh", "siglip_vision_model", "gelu_pytorch_tanh"),
        ("tiny_clip", "clip_vision_model", "gelu"),
        ("tiny_clip_quickgelu", "clip_vision_model", "quick_gelu"),
    ],
)
def test_the_activation_is_the_one_trained_with(name: str, target: str, activation: str) -> None:
    config, _ = convert_tower(build("timm", name), target)
    assert config.hidden_act == activation


def test_eps_and_heads_go_with_the_tower() -> None:
    config, state = convert_tower(build("timm", "tiny_clip", -1), "clip_vision_model")
    assert config.layer_norm_eps == 1e-5
    assert (config.num_attention_heads, config.image_size, config.patch_size) == (2, 32, 8)
    assert convert_tower(build("timm", "tiny_dinov2"), "dinov2")[0].layer_norm_eps == 1e-6
    # Weights are copies: what is done to them leaves the encoder alone, and none shares memory with another.
    assert len({tensor.untyped_storage().data_ptr() for tensor in state.values()}) == len(state)


def test_a_pooling_head_is_left_behind(tmp_path: Path) -> None:
    for kind, switch in (("siglip", "vision_use_head"), ("aimv2", "use_head")):
        encoder = build("transformers", save_tiny_transformers(tmp_path / kind, kind))
        config, state = convert_tower(encoder, encoder.contract.family)
        assert getattr(config, switch) is False
        assert not [name for name in state if name.startswith("head")]
        assert getattr(encoder.backbone.config, switch) is True


def test_what_an_encoder_can_become_is_known_without_weights(tmp_path: Path) -> None:
    for kind, targets in TRANSFORMERS.items():
        assert set(conversions(build("transformers", save_tiny_transformers(tmp_path / kind, kind), meta=True))) == set(
            targets
        )
    for name, targets in TIMM.items():
        size = 32 if name.startswith("tiny") else 64
        assert set(conversions(build("timm", name, size=size, meta=True))) == set(targets)
    for kind, targets in OPEN_CLIP.items():
        assert set(conversions(build("open_clip", add_tiny_open_clip(tmp_path, kind), -1, meta=True))) == set(targets)


def test_a_family_tells_what_its_encoders_may_become() -> None:
    assert conversions("dinov3_vit") == ("dinov3_vit",)
    assert conversions("siglip_vision_model")[0] == "siglip_vision_model"
    assert conversions("timm_cnn") == ("timm_wrapper",)
    with pytest.raises(UserError, match=r"unknown family of vision encoders 'siglip_vision'.*siglip_vision_model"):
        conversions("siglip_vision")


@pytest.mark.parametrize(
    ("library", "name", "target", "reason"),
    [
        ("timm", "tiny_siglip", "clip_vision_model", "it has bias of the patch embedding, which that class has not"),
        ("timm", "tiny_clip", "siglip_vision_model", "it has class token, which"),
        ("timm", "tiny_dinov2_reg", "dinov2", "it has register tokens, which"),
        ("timm", "tiny_vit", "dinov2", "it has no LayerScale"),
        ("timm", "tiny_dinov3", "dinov2", "its model is a Eva, expected VisionTransformer"),
        ("timm", "test_convnext", "siglip_vision_model", "the towers for it are timm_wrapper"),
        ("open_clip", "coca", "clip_vision_model", "behind attention pooling"),
        ("open_clip", "resnet", "timm_wrapper", "the towers for it are none"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    library: str, name: str, target: str, reason: str, tmp_path: Path
) -> None:
    if library == "open_clip":
        name = add_tiny_open_clip(tmp_path, name)
    encoder = build(library, name, -1, 32)
    assert reason in str(why_not(encoder, target))
    with pytest.raises(UserError, match=f"cannot become {target}.*Towers that it can become: "):
        convert_tower(encoder, target)


def test_an_activation_without_a_name_in_transformers_is_refused() -> None:
    encoder = build("timm", "tiny_siglip")
    for block in encoder.backbone.blocks:
        block.mlp.act = torch.nn.Hardtanh()
    assert "its activation Hardtanh is not known" in str(why_not(encoder, "siglip_vision_model"))
    assert conversions(encoder) == ("timm_wrapper",)
