"""Tokenizers of the released classes: ids that a pair shares, and the end of a turn."""

import pytest

from taid_vlm.data.pairing import Pairer
from taid_vlm.losses import LossSpec
from taid_vlm.planning.models import build_models
from tests.recipes.shrunk import Hub, shrunk

PAIRS = {
    "paper/ultrachat/phi3-tinyllama/taid": "<|end|>",
    "paper/ultrachat/llama2-tinyllama/taid": "</s>",
    "paper/ultrachat/stablelm-pythia/taid": "<|endoftext|>",
    "modern/smolvlm2-smollm2": "<end_of_utterance>",
    "modern/qwen2_5vl-qwen3": "<|im_end|>",
    "modern/qwen3vl-qwen3": "<|im_end|>",
    "modern/internvl3": "<|im_end|>",
    "modern/qwen3": "<|im_end|>",
}


@pytest.mark.parametrize("name", PAIRS)
def test_teacher_and_student_end_a_turn_with_one_token_that_both_share(name: str, hub: Hub) -> None:
    recipe = shrunk(name, hub)
    models = build_models(recipe, LossSpec.of(**recipe.loss.objective))
    assert models.teacher is not None
    assert models.vocabulary is not None
    pairer = Pairer.of(recipe.data, models.processor, models.teacher.processor)
    assert not pairer.ends_differ
    end = models.processor.end_of_turn_id
    assert models.processor.tokenizer.convert_ids_to_tokens(end) == PAIRS[name]
    assert end == models.teacher.processor.end_of_turn_id < models.vocabulary
