"""Each projector computes what its native class computes, bit for bit, from the same weights under mapped names."""

from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    FastVlmConfig,
    Idefics2Config,
    InternVLConfig,
    Lfm2VlConfig,
    LlamaConfig,
    LlavaConfig,
    PerceptionLMConfig,
    SmolVLMConfig,
)
from transformers.models.deepseek_vl.modeling_deepseek_vl import DeepseekVLAligner
from transformers.models.fast_vlm.modeling_fast_vlm import FastVlmMultiModalProjector
from transformers.models.idefics2.modeling_idefics2 import Idefics2Connector
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector
from transformers.models.lfm2_vl.modeling_lfm2_vl import Lfm2VlMultiModalProjector
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.perception_lm.modeling_perception_lm import PerceptionLMMultiModalProjector
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

from taid_vlm.models.projectors import space_to_depth
from tests.tiny.projectors import SMALL_HEADS, build, contract

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


def features(*grid: int) -> torch.Tensor:
    return torch.randn(3, grid[0] * grid[1], 24, generator=torch.Generator().manual_seed(0))


def agree(ours: Any, native: torch.nn.Module, given: torch.Tensor, *more: Any, rename: Any = None) -> None:
    state = {rename(name) if rename else name: tensor for name, tensor in ours.state_dict().items()}
    native.load_state_dict(state)  # strict: no name is missing or unknown
    with torch.no_grad():
        assert torch.equal(native.eval()(given, *more), ours(given))


def test_space_to_depth_names_each_channel() -> None:
    # A value that tells row, column and channel of where it comes from.
    cells = torch.arange(4 * 6).view(1, 24, 1) * 10 + torch.arange(2)
    out = space_to_depth(cells, (4, 6), 2)
    assert out.shape == (1, 6, 8)
    assert out[0, 4].tolist() == [10 * cell + c for cell in (14, 15, 20, 21) for c in (0, 1)]
    assert torch.equal(space_to_depth(cells, (4, 6), 1), cells)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_space_to_depth_has_the_order_of_smolvlm_internvl_and_lfm2_vl(factor: int) -> None:
    given = features(6, 6)
    ours = space_to_depth(given, (6, 6), factor)
    assert torch.equal(SmolVLMConnector.pixel_shuffle(None, given, factor), ours)  # type: ignore[arg-type]
    grid = given.view(3, 6, 6, 24)
    lfm2: Any = type("Holder", (), {"factor": factor})()
    assert torch.equal(Lfm2VlMultiModalProjector.pixel_unshuffle(lfm2, grid).reshape(ours.shape), ours)
    if factor < 3:  # InternVL tests the remainder of a float
        internvl = InternVLModel.pixel_shuffle(None, grid, scale_factor=1 / factor)  # type: ignore[arg-type]
        assert torch.equal(internvl.reshape(ours.shape), ours)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("connector", [SmolVLMConnector, Idefics3Connector])
def test_pixel_shuffle_linear_is_smolvlm(factor: int, connector: Any) -> None:
    config = SmolVLMConfig(vision_config={"hidden_size": 24}, text_config=LlamaConfig(**TEXT), scale_factor=factor)
    agree(build("pixel_shuffle_linear", contract(), factor=factor), connector(config), features(6, 6))


def vision_text(config: Any, **options: Any) -> Any:
    vision = CLIPVisionConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    return config(vision_config=vision, text_config=LlamaConfig(**TEXT), **options)


def test_mlp_is_llava_fast_vlm_and_deepseek_vl() -> None:
    ours, given = build("mlp", contract()), features(6, 6)
    agree(ours, LlavaMultiModalProjector(vision_text(LlavaConfig)), given)
    fast = FastVlmConfig(text_config=LlamaConfig(**TEXT))
    fast.vision_config.hidden_size = 24
    agree(ours, FastVlmMultiModalProjector(fast), given)
    agree(ours, DeepseekVLAligner(vision_text(LlavaConfig)), given, rename=lambda n: n.replace("_", ""))


def test_linear_is_llava_with_an_identity_as_second_layer() -> None:
    ours, given = build("linear", contract()), features(6, 6)
    native = LlavaMultiModalProjector(vision_text(LlavaConfig, projector_hidden_act="linear"))
    with torch.no_grad():
        native.linear_1.load_state_dict(ours.linear.state_dict())
        native.linear_2.weight.copy_(torch.eye(32))
        native.linear_2.bias.zero_()
        assert torch.equal(native(given), ours(given))


def internvl_native() -> torch.nn.Module:
    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projector = InternVLMultiModalProjector(vision_text(InternVLConfig, downsample_ratio=0.5))

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            blocks = InternVLModel.pixel_shuffle(None, given.view(-1, 6, 6, 24), scale_factor=0.5)  # type: ignore[arg-type]
            return self.projector(blocks.reshape(blocks.shape[0], -1, blocks.shape[-1]))

    return Whole()


def disturbed(projector: Any) -> Any:
    """Norms and biases begin at one and zero, where a mistake would not show."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in projector.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter))
    return projector


@pytest.mark.parametrize(
    "ours", [("ln_pixel_shuffle_mlp", {}), ("pixel_shuffle_mlp", {"layernorm": True})], ids=["ln", "options"]
)
def test_ln_pixel_shuffle_mlp_is_internvl(ours: tuple[str, dict[str, Any]]) -> None:
    made = disturbed(build(ours[0], contract(), **ours[1]))
    agree(made, internvl_native(), features(6, 6), rename=lambda name: f"projector.{name}")


class Lfm2(torch.nn.Module):
    """The native projector with a map for input."""

    def __init__(self, grid: tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.grid, self.projector = grid, Lfm2VlMultiModalProjector(vision_text(Lfm2VlConfig, **options))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.projector(given.unflatten(1, self.grid)).flatten(1, 2)


@pytest.mark.parametrize("grid", [(6, 6), (4, 6)])
@pytest.mark.parametrize("layernorm", [False, True])
def test_pixel_shuffle_mlp_is_lfm2_vl(grid: tuple[int, int], layernorm: bool) -> None:
    ours = disturbed(build("pixel_shuffle_mlp", contract(grid), width=20, layernorm=layernorm))
    native = Lfm2(grid, downsample_factor=2, projector_hidden_size=20, projector_use_layernorm=layernorm)
    agree(ours, native, features(*grid), rename=lambda name: f"projector.{name}")


@pytest.mark.parametrize(("side", "ratio"), [(6, 1), (6, 2), (7, 2), (7, 3)])
def test_mlp_avg_pool_is_perception_lm(side: int, ratio: int) -> None:
    config = PerceptionLMConfig(text_config=LlamaConfig(**TEXT), projector_pooling_ratio=ratio)
    config.vision_config.model_args = {"embed_dim": 24}
    agree(
        disturbed(build("mlp_avg_pool", contract((side, side)), ratio=ratio)),
        PerceptionLMMultiModalProjector(config),
        features(side, side),
    )


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_perceiver_is_the_connector_of_idefics2(kv_heads: int) -> None:
    from transformers import MistralConfig

    config = Idefics2Config(
        vision_config={"hidden_size": 24, "num_attention_heads": 2},
        text_config=MistralConfig(**TEXT, num_key_value_heads=4),
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 5,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 8,
            "num_key_value_heads": kv_heads,
        },
    )
    config.perceiver_config._attn_implementation = "sdpa"
    ours = disturbed(build("perceiver", contract(), **{**SMALL_HEADS, "kv_heads": kv_heads}, width=48))
    agree(ours, Idefics2Connector(config), features(6, 6), torch.ones(3, 36))


def test_ldp_v2_is_mlp_pool_and_a_convolution_added_to_its_input() -> None:
    # transformers has no class for it: the paper's figure 3, written with plain modules.
    ours = disturbed(build("ldp_v2", contract()))
    mlp = torch.nn.Sequential(ours.linear_1, torch.nn.GELU(), ours.linear_2)
    maps = mlp(features(6, 6)).permute(0, 2, 1).reshape(3, 32, 6, 6)
    small = torch.nn.functional.avg_pool2d(maps, 2)
    expected = small + torch.nn.functional.conv2d(small, ours.peg.weight, ours.peg.bias, padding=1, groups=32)
    torch.testing.assert_close(ours(features(6, 6)), expected.reshape(3, 32, 9).permute(0, 2, 1))
