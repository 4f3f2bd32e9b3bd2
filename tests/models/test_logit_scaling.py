"""Factors and soft caps of real architectures are found, and unknown ones refused."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    RecurrentGemmaConfig,
)

from taid_vlm.common.errors import UserError
from taid_vlm.models.logit_scaling import LogitScaling, find_logit_scaling
from taid_vlm.models.student import ModelInputs, Student
from tests.tiny.language_model import tiny_llama

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
FAMILIES = {
    "gemma2": (Gemma2Config(**SMALL, final_logit_softcapping=30.0), LogitScaling(1.0, 30.0)),
    "gemma3": (Gemma3TextConfig(**SMALL, final_logit_softcapping=5.0), LogitScaling(1.0, 5.0)),
    "gemma3-plain": (Gemma3TextConfig(**SMALL), LogitScaling()),
    "cohere": (CohereConfig(**SMALL, logit_scale=0.0625), LogitScaling(0.0625)),
    "granite-divides": (GraniteConfig(**SMALL, logits_scaling=8.0), LogitScaling(0.125)),
    "falcon-h1": (
        FalconH1Config(**SMALL, lm_head_multiplier=0.25, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_state=8),
        LogitScaling(0.25),
    ),
    "recurrent-gemma": (
        RecurrentGemmaConfig(**{**SMALL, "num_hidden_layers": 3}, logits_soft_cap=20.0, lru_width=32),
        LogitScaling(1.0, 20.0),
    ),
}


def tiny(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # logits large enough for a cap to bite
        model.get_output_embeddings().weight.mul_(20)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_logits_of_its_language_model(family: str) -> None:
    config, expected = FAMILIES[family]
    model = tiny(config)
    assert find_logit_scaling(model) == expected
    ids = torch.tensor([[5, 9, 11, 3]])
    inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(4))
    with torch.no_grad():
        ours, theirs = Student(model)(inputs), model(input_ids=ids).logits[0]
    torch.testing.assert_close(ours, theirs)


def test_a_plain_head_is_plain_and_the_mode_is_kept() -> None:
    model = tiny_llama().train()
    assert find_logit_scaling(model) == LogitScaling()
    assert model.training


def test_a_cap_that_two_tokens_do_not_show_is_kept() -> None:
    config, _ = FAMILIES["gemma2"]
    torch.manual_seed(0)
    assert find_logit_scaling(AutoModelForCausalLM.from_config(config)) == LogitScaling(1.0, 30.0)


def test_an_unknown_change_of_the_logits_is_refused() -> None:
    model = tiny_llama()
    forward = model.forward
    model.forward = lambda **arguments: _shifted(forward(**arguments))
    with pytest.raises(UserError, match=r"LlamaForCausalLM changes its logits .* expected a factor or a soft cap"):
        find_logit_scaling(model)


def _shifted(output: Any) -> Any:
    output.logits = output.logits**3
    return output
