"""Encoders of three libraries behind one contract: the cells of a square grid in row order, from the layer asked for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from taid_vlm.common.errors import UserError
from taid_vlm.models.specs import VisionEncoderSpec
from taid_vlm.models.vision_encoder import VisionEncoder, build_vision_encoder
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers


def build(library: str, name: Any, size: int = 64, weights: str = "random", **options: Any) -> VisionEncoder:
    torch.manual_seed(0)
    spec = {"library": library, "name": str(name), "weights": weights, "image_size": size, **options}
    return build_vision_encoder(VisionEncoderSpec.model_validate(spec))


def pixels(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "dim", "side"),
    # test_vit has a class token, test_vit2 and test_vit3 a register; the others are CNNs of stride 32.
    [("test_vit", 64, 4), ("test_vit2", 64, 4), ("test_vit3", 96, 4), ("test_resnet", 96, 2), ("test_convnext", 64, 2)],
)
def test_timm_gives_the_grid_and_its_own_preprocessing(name: str, dim: int, side: int) -> None:
    import timm

    encoder = build("timm", name)
    assert encoder.contract.grid == (side, side)
    assert encoder.contract.feature_dim == dim
    assert encoder(pixels(64)).shape == (2, side * side, dim)
    config = timm.get_pretrained_cfg(name)
    image = encoder.contract.image
    assert (image.mean, image.std, image.interpolation) == (config.mean, config.std, config.interpolation)
    assert image.size == 64


def test_timm_tokens_are_the_cells_in_row_order() -> None:
    encoder = build("timm", "test_resnet", 128)
    maps = encoder.backbone.forward_features(pixels(128))  # [2, C, 4, 4]
    torch.testing.assert_close(encoder(pixels(128))[:, 4 * 1 + 2], maps[:, :, 1, 2])


def test_timm_leaves_the_class_token_out() -> None:
    encoder = build("timm", "test_vit")
    whole = encoder.backbone.forward_features(pixels(64))
    assert whole.shape[1] == 17
    assert torch.equal(encoder(pixels(64)), whole[:, 1:])


def test_a_timm_model_of_fixed_size_is_built_at_the_size_asked_for() -> None:
    assert build("timm", "test_vit", 96).contract.grid == (6, 6)


def test_open_clip_gives_the_last_layer_after_its_norm(tmp_path: Path) -> None:
    encoder = build("open_clip", add_tiny_open_clip(tmp_path), 32)
    assert (encoder.contract.grid, encoder.contract.feature_dim) == ((4, 4), 64)
    tower = encoder.backbone
    tower.output_tokens = True
    # The tower's own token output is the last layer after ln_post, class token taken off.
    _, tokens = tower(pixels(32))
    torch.testing.assert_close(encoder(pixels(32)), tokens)
    assert encoder.contract.image.mean == tower.preprocess_cfg["mean"]
    assert encoder.contract.image.interpolation == tower.preprocess_cfg["interpolation"]


def test_open_clip_without_pretrained_weights_is_not_silently_random(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pretrained weights for 'tiny-clip'"):
        build("open_clip", add_tiny_open_clip(tmp_path), 32, weights="pretrained")


@pytest.mark.parametrize(("kind", "prefix"), [("clip", 1), ("siglip", 0), ("dinov2", 1)])
def test_transformers_gives_the_last_hidden_state_of_the_patches(tmp_path: Path, kind: str, prefix: int) -> None:
    encoder = build("transformers", save_tiny_transformers(tmp_path / kind, kind), 32, weights="pretrained")
    assert (encoder.contract.grid, encoder.contract.feature_dim) == ((4, 4), 32)
    whole = encoder.backbone(pixels(32)).last_hidden_state
    assert whole.shape[1] == 16 + prefix
    torch.testing.assert_close(encoder(pixels(32)), whole[:, prefix:])
    assert encoder.contract.image.interpolation == "bilinear"


def test_transformers_preprocessing_comes_with_the_source(tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "siglip", "siglip", resample=0)
    image = build("transformers", folder, 32, weights="pretrained").contract.image
    assert (image.mean, image.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert image.interpolation == "nearest"
    assert build("transformers", folder, 32, interpolation="bicubic").contract.image.interpolation == "bicubic"


def test_transformers_takes_other_sizes(tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "dinov2", "dinov2")
    assert build("transformers", folder, 48, weights="pretrained").contract.grid == (6, 6)


def test_pretrained_and_random_weights_differ(tmp_path: Path) -> None:
    folder = save_tiny_transformers(tmp_path / "clip", "clip")
    one, two, other = (build("transformers", folder, 32, weights=w) for w in ("pretrained", "pretrained", "random"))
    assert torch.equal(one(pixels(32)), two(pixels(32)))
    assert not torch.allclose(one(pixels(32)), other(pixels(32)))


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        ("timm", "test_resnett", r"timm has no model 'test_resnett'.*test_resnet"),
        ("open_clip", "ViT-B-33", r"open_clip has no model 'ViT-B-33'.*ViT-B-32"),
        ("transformers", "/nowhere/at/all", "cannot load the vision encoder '/nowhere/at/all'"),
    ],
)
def test_an_unknown_encoder_is_named(library: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(library, name)


def test_weight_files_are_matched_by_name_or_by_order(tmp_path: Path) -> None:
    source = build("timm", "test_vit2")
    state = source.backbone.state_dict() | {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    order = list(build_full("test_vit2"))
    save_file({name: state[name] for name in order}, tmp_path / "names.safetensors")
    torch.save({f"other.{name}": state[name] for name in order}, tmp_path / "order.pt")
    named = build("timm", "test_vit2", weights=str(tmp_path / "names.safetensors"))
    ordered = build("timm", "test_vit2", weights=str(tmp_path / "order.pt"), weights_match="order")
    for other in (named, ordered):
        assert torch.equal(other(pixels(64)), source(pixels(64)))
    with pytest.raises(UserError, match=r"order\.pt does not fit.*set weights_match: order"):
        build("timm", "test_vit2", weights=str(tmp_path / "order.pt"))
    with pytest.raises(UserError, match=r"order\.pt does not fit the vision encoder in order"):
        build("timm", "test_vit", weights=str(tmp_path / "order.pt"), weights_match="order")
    with pytest.raises(UserError, match="weights not found: pretraned"):
        build("timm", "test_vit2", weights="pretraned")


def build_full(name: str) -> list[str]:
    import timm

    return list(timm.create_model(name).state_dict())


def test_what_libraries_there_are_is_known_without_any_of_them() -> None:
    program = (
        "import sys; from taid_vlm.models.encoders.libraries import LIBRARIES; import taid_vlm.models.specs; "
        "print(*LIBRARIES, *{'torch', *LIBRARIES}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["timm", "open_clip", "transformers"]
