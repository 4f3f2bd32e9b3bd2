"""A smaller language model is cut out of a larger one: the layers that stay are the parent's own."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.models.language_model import load_language_model
from taid_vlm.models.layers import cut_layers, layers_to_keep
from taid_vlm.models.specs import LanguageModelSpec
from tests.tiny.language_model import save_tiny_llama, tiny_llama


def load(source: Any, **options: Any) -> torch.nn.Module:
    return load_language_model(LanguageModelSpec(source=str(source), **options))[0]


@given(st.integers(1, 90), st.data())
def test_a_number_of_layers_is_spread_evenly(available: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, available))
    kept = layers_to_keep(wanted, available)
    assert len(set(kept)) == wanted
    assert kept == sorted(kept)
    assert kept[0] == 0
    if wanted > 1:
        assert kept[-1] == available - 1
        gaps = [b - a for a, b in pairwise(kept)]
        assert max(gaps) - min(gaps) <= 1 or wanted == 2


@pytest.mark.parametrize("wanted", [0, 6, [], [0, 0], [5], [-1]])
def test_layers_that_do_not_exist_are_refused(wanted: int | list[int]) -> None:
    with pytest.raises(UserError, match="asked for"):
        layers_to_keep(wanted, 5)


@pytest.mark.parametrize(("layers", "kept"), [(3, [0, 2, 4]), ([4, 1], [4, 1]), (1, [0]), (None, [0, 1, 2, 3, 4])])
def test_kept_layers_have_the_parents_weights(tmp_path: Path, layers: Any, kept: list[int]) -> None:
    parent = tiny_llama(layers=5)
    folder = save_tiny_llama(tmp_path / "llama", layers=5)
    child: Any = load(folder, layers=layers)
    assert child.config.num_hidden_layers == len(child.model.layers) == len(kept)
    for own, index in zip(child.model.layers, kept, strict=True):
        for name, weight in own.state_dict().items():
            assert torch.equal(weight, parent.model.layers[index].state_dict()[name])
    assert torch.equal(child.model.embed_tokens.weight, parent.model.embed_tokens.weight)
    assert torch.equal(child.model.norm.weight, parent.model.norm.weight)


def test_a_cut_model_computes_its_layers_one_after_the_other() -> None:
    model = tiny_llama(layers=4)
    layers = [model.model.layers[i] for i in (3, 1)]
    cut_layers(model, [3, 1])
    ids = torch.arange(10, 20).unsqueeze(0)
    states = model.model.embed_tokens(ids)
    position = model.model.rotary_emb(states, torch.arange(10).unsqueeze(0))
    for layer in layers:
        states = layer(states, position_embeddings=position, attention_mask=causal(10))
    torch.testing.assert_close(model(input_ids=ids).logits, model.lm_head(model.model.norm(states)))


def test_generation_with_the_cache_equals_generation_without() -> None:
    model = tiny_llama(layers=4)
    cut_layers(model, [0, 3])
    ids = torch.arange(10, 20).unsqueeze(0)
    with_cache, without = (model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=c) for c in (True, False))
    assert torch.equal(with_cache, without)


def causal(length: int) -> torch.Tensor:
    return torch.full((length, length), float("-inf")).triu(1)[None, None]


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder not found: .*gone"):
        load(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot load the language model .*empty"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match=r"GGUF file not found: .*x\.gguf"):
        load(tmp_path / "empty", gguf_file="x.gguf")
