"""Which layer of an encoder is read, with or without class and register tokens, compared with the libraries' own outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.encoders.from_transformers import patches
from taid_vlm.models.specs import VisionEncoderSpec
from taid_vlm.models.vision_encoder import VisionEncoder, build_vision_encoder
from tests.tiny.vision import TIMM_VITS, TRANSFORMERS_KINDS, add_tiny_open_clip, save_tiny_transformers, shake

# Class and register tokens, and the tower's model_type where it is not the kind's name.
PREFIX = {
    "clip": 1,
    "dinov2": 1,
    "dinov2_with_registers": 5,
    "dinov3_vit": 4,
    "vit": 1,
    "internvl_vision": 1,
    "clip_dual": 1,
}
FAMILY = {
    "clip": "clip_vision_model",
    "siglip": "siglip_vision_model",
    "siglip2_naflex": "siglip2_vision_model",
    "aimv2": "aimv2_vision_model",
    "clip_dual": "clip_vision_model",
    "siglip_dual": "siglip_vision_model",
    "siglip2_dual": "siglip2_vision_model",
    "aimv2_dual": "aimv2_vision_model",
}
TIMM_PREFIX = {
    "tiny_clip": 1,
    "tiny_clip_quickgelu": 1,
    "tiny_dinov2": 1,
    "tiny_dinov2_reg": 5,
    "tiny_vit": 1,
    "tiny_deit3_reg": 3,
    "tiny_dinov3": 5,
}


def spec(library: str, name: Any, feature: Any = "normed", size: int = 32, keep: bool = False) -> VisionEncoderSpec:
    return VisionEncoderSpec.model_validate(
        {
            "library": library,
            "name": str(name),
            "weights": "pretrained" if library == "transformers" else "random",
            "image_size": size,
            "feature": feature,
            "prefix_tokens": "keep" if keep else "drop",
        }
    )


def build(*arguments: Any, **options: Any) -> VisionEncoder:
    torch.manual_seed(0)
    encoder = build_vision_encoder(spec(*arguments, **options))
    shake(encoder)
    return encoder


def pixels(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def check(feature: Any, expected: Tensor, prefix: int, family: str, layout: str, *arguments: Any) -> None:
    """``expected``: ``[2, prefix + cells, feature_dim]`` from the library."""
    cells = expected.shape[1] - prefix
    for keep in (True, False):
        encoder = build(*arguments, feature, pixels_size(arguments), keep)
        contract = encoder.contract
        with torch.no_grad():
            found = encoder(pixels(contract.image.size))
        assert torch.equal(found, expected if keep else expected[:, prefix:])
        assert contract.prefix_tokens == (prefix if keep else 0)
        assert contract.source_prefix_tokens == prefix
        assert contract.grid[0] * contract.grid[1] == cells
        assert found.shape == (2, contract.prefix_tokens + cells, contract.feature_dim)
        assert (contract.family, contract.layout, contract.feature) == (family, layout, feature)


def pixels_size(arguments: tuple[Any, ...]) -> int:
    return 64 if str(arguments[1]).startswith(("test_", "fastvit", "tiny-resnet")) else 32


@pytest.mark.parametrize("kind", TRANSFORMERS_KINDS)
def test_transformers_gives_its_hidden_states(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / kind, kind)
    tower: Any = build("transformers", folder).backbone
    family = FAMILY.get(kind, kind)
    arguments = patches(pixels(), tower.config) if family == "siglip2_vision_model" else {"pixel_values": pixels()}
    with torch.no_grad():
        out = tower(**arguments, output_hidden_states=True)
    assert len(out.hidden_states) == 3
    normed = {"clip_vision_model": 0, "internvl_vision": 0}  # their last hidden state is the last block's
    assert torch.equal(out.last_hidden_state, out.hidden_states[-1]) == (family in normed)
    for feature, expected in (
        ("normed", out.last_hidden_state),
        (-1, out.hidden_states[-1]),
        (-2, out.hidden_states[-2]),
    ):
        check(feature, expected, PREFIX.get(kind, 0), family, "NLC", "transformers", folder)


def test_patches_are_cut_as_the_processor_of_siglip_2_cuts_them(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    folder = save_tiny_transformers(tmp_path / "tower", "siglip2_naflex")
    processor = AutoImageProcessor.from_pretrained(folder)
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = processor(images=picture, return_tensors="pt")
    config = build("transformers", folder).backbone.config
    found = patches((picture[None] / 255 - 0.5) / 0.5, config)
    torch.testing.assert_close(found["pixel_values"], out["pixel_values"])
    assert torch.equal(found["spatial_shapes"], out["spatial_shapes"])
    assert out["pixel_attention_mask"].all()


@pytest.mark.parametrize("name", [*TIMM_VITS, "test_vit", "test_vit2"])
def test_timm_gives_the_output_of_its_blocks(name: str) -> None:
    size = pixels_size(("timm", name))
    model: Any = build("timm", name, size=size).backbone
    outputs: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        normed = model.forward_features(pixels(size))
    prefix = {**TIMM_PREFIX, "test_vit": 1, "test_vit2": 1}.get(name, 0)
    for feature, expected in (("normed", normed), (-1, outputs[-1]), (-2, outputs[-2])):
        check(feature, expected, prefix, "timm_vit", "NLC", "timm", name)


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_efficientnet", "fastvit_t8"])
def test_maps_become_tokens_in_row_order(name: str) -> None:
    model: Any = build("timm", name, size=64).backbone
    with torch.no_grad():
        normed = model.forward_features(pixels(64))
        stages = model.forward_intermediates(pixels(64), intermediates_only=True)
    for feature, expected in (("normed", normed), (-1, stages[-1]), (-2, stages[-2])):
        check(feature, expected.flatten(2).transpose(1, 2), 0, "timm_cnn", "NCHW", "timm", name)


def test_maps_with_channels_last_are_told_apart() -> None:
    model: Any = build("timm", "test_mambaout", size=64).backbone
    with torch.no_grad():
        normed = model.forward_features(pixels(64))
        last = model.forward_intermediates(pixels(64), intermediates_only=True)[-1]
    check("normed", normed.flatten(1, 2), 0, "timm_other", "NHWC", "timm", "test_mambaout")
    check(-1, last.flatten(2).transpose(1, 2), 0, "timm_other", "NCHW", "timm", "test_mambaout")


@pytest.mark.parametrize("kind", ["vit", "quickgelu", "coca"])
def test_open_clip_gives_the_output_of_its_blocks(kind: str, tmp_path: Path) -> None:
    name = add_tiny_open_clip(tmp_path, kind)
    tower: Any = build("open_clip", name, -1).backbone
    outputs: list[Tensor] = []
    for block in tower.transformer.resblocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        tower(pixels())
        features = [(-1, outputs[-1]), (-2, outputs[-2])]
        if kind != "coca":
            features.append(("normed", tower.ln_post(outputs[-1])))
    for feature, expected in features:
        check(feature, expected, 1, "open_clip_vit", "NLC", "open_clip", name)


def test_a_final_norm_behind_pooling_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes after attention pooling and is not for tokens"):
        build("open_clip", add_tiny_open_clip(tmp_path, "coca"))


def test_open_clip_towers_from_timm_are_read_as_timm_models(tmp_path: Path) -> None:
    name = add_tiny_open_clip(tmp_path, "timm")
    trunk: Any = build("open_clip", name).backbone
    with torch.no_grad():
        normed = trunk.forward_features(pixels())
    check("normed", normed, 0, "open_clip_timm", "NLC", "open_clip", name)
    assert build("open_clip", name, size=48).contract.grid == (6, 6)


def test_open_clip_resnets_give_their_map(tmp_path: Path) -> None:
    name = add_tiny_open_clip(tmp_path, "resnet")
    tower: Any = build("open_clip", name, size=64).backbone
    with torch.no_grad():
        maps = tower.forward_intermediates(pixels(64), intermediates_only=True)["image_intermediates"]
    for feature, expected in (("normed", maps[-1]), (-1, maps[-1])):
        check(feature, expected.flatten(2).transpose(1, 2), 0, "open_clip_other", "NCHW", "open_clip", name)


@pytest.mark.parametrize("kind", ["siglip", "clip", "vit", "internvl_vision", "dinov2", "dinov3_vit", "siglip2_naflex"])
def test_towers_of_transformers_take_other_sizes(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / kind, kind)
    encoder = build("transformers", folder, -2, 48)
    assert encoder.contract.grid == (6, 6)
    assert encoder(pixels(48)).shape == (2, 36, 32)


def test_a_size_that_the_tower_does_not_take_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "aimv2", "aimv2")
    with pytest.raises(UserError, match=r"aimv2_vision_model\) takes pictures of 32 x 32 only: set image_size: 32"):
        build("transformers", folder, size=48)
    native = save_tiny_transformers(tmp_path / "native", "aimv2", is_native=True)
    assert build("transformers", native, size=48).contract.grid == (6, 6)
    with pytest.raises(UserError, match=r"'test_maxvit' does not take pictures of 80 x 80: .*window"):
        build("timm", "test_maxvit", size=80)


@pytest.mark.parametrize(("library", "name", "blocks"), [("timm", "tiny_siglip", 2), ("timm", "test_convnext", 4)])
def test_a_block_that_is_not_there_is_refused(library: str, name: str, blocks: int) -> None:
    with pytest.raises(
        UserError, match=rf"feature is -9, but '{name}' has {blocks} blocks: set normed, or .* to -{blocks}"
    ):
        build(library, name, -9)


def test_blocks_of_other_libraries_are_counted_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 2 blocks"):
        build("transformers", save_tiny_transformers(tmp_path / "clip", "clip"), -3)
    with pytest.raises(UserError, match="has 2 blocks"):
        build("open_clip", add_tiny_open_clip(tmp_path), -3)


def test_what_is_no_vision_tower_is_refused(language_model: Path) -> None:
    with pytest.raises(UserError, match="holds a 'llama', which is no vision tower that is known here"):
        build("transformers", language_model)


@pytest.mark.parametrize(("number", "name"), [(0, "nearest"), (1, "lanczos"), (2, "bilinear"), (3, "bicubic")])
def test_filters_have_the_names_of_pil(number: int, name: str, tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "clip", "clip", resample=number)
    assert build("transformers", folder).contract.image.interpolation == name


def test_a_filter_without_a_name_is_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "clip", "clip", resample=5)
    with pytest.raises(UserError, match=r"filter number 5.*set vision_encoder\.interpolation"):
        build("transformers", folder)
    chosen = spec("transformers", folder).model_copy(update={"interpolation": "bilinear"})
    assert build_vision_encoder(chosen).contract.image.interpolation == "bilinear"


def test_the_contract_is_known_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[tuple[str, Any]] = [("timm", name) for name in (*TIMM_VITS, "test_convnext", "test_mambaout")]
    sources += [("transformers", save_tiny_transformers(tmp_path / kind, kind)) for kind in TRANSFORMERS_KINDS]
    sources += [("open_clip", add_tiny_open_clip(tmp_path, kind)) for kind in ("vit", "timm", "resnet", "coca")]
    built = []
    for library, name in sources:
        wanted = spec(library, name, -1, pixels_size((library, name)), True)
        built.append((wanted, build_vision_encoder(wanted).contract))
    for folder in tmp_path.rglob("*.safetensors"):
        folder.unlink()  # nothing below may read weights
    for wanted, contract in built:
        with torch.device("meta"):
            encoder = build_vision_encoder(wanted, load_weights=False)
        assert encoder.contract == contract
        assert all(parameter.is_meta for parameter in encoder.parameters())
