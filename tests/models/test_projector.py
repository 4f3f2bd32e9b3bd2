"""Projectors: shapes, the arithmetic of the class they export to, and exact names."""

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.projector import PROJECTORS, build_projector
from taid_vlm.models.vision_encoder import EncoderContract, ImageInput

CONTRACT = EncoderContract(24, (3, 3), ImageInput(48, (0.5,) * 3, (0.5,) * 3, "bicubic"))


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_tokens_and_width(name: str) -> None:
    projector = build_projector(name, CONTRACT, 32, 0.05)
    out = projector(torch.randn(2, 9, 24))
    assert out.shape == (2, projector.tokens_out(CONTRACT.grid), 32)


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_the_start_is_as_large_as_the_token_embeddings(name: str) -> None:
    torch.manual_seed(0)
    projector = build_projector(name, CONTRACT, 64, 0.05)
    out = projector(torch.randn(400, 9, 24))
    assert float(out.detach().std()) == pytest.approx(0.05, rel=0.15)


def test_mlp_has_the_arithmetic_and_names_of_llava() -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=32, num_hidden_layers=1),
    )
    native, ours = LlavaMultiModalProjector(config), build_projector("mlp", CONTRACT, 32, 0.05)
    native.load_state_dict(ours.state_dict())
    features = torch.randn(2, 9, 24)
    torch.testing.assert_close(native(features), ours(features))


@pytest.mark.parametrize("name", ["mlp2", "MLP", "ml", "lin"])
def test_only_exact_names_are_known(name: str) -> None:
    with pytest.raises(UserError, match=rf"unknown projector '{name}'.*(mlp|linear)"):
        build_projector(name, CONTRACT, 32, 0.05)
