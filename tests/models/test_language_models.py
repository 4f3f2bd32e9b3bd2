"""Every family of language models can be cut, saved, opened without weights, and used as (or refused for) a student."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student
from taid_vlm.models.language_model import VISION_FAMILIES, embedding_std, load_language_model
from taid_vlm.models.layers import cut_config, cut_layers
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.student import ModelInputs
from tests.tiny.language_model import FAMILIES, save_tiny_language_model, tiny_language_model, tiny_tokenizer

IDS = torch.arange(10, 34).unsqueeze(0)  # three times as long as the windows


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def without(model: Any, dropped: set[int]) -> Any:
    """The model with layers that hand on what they get."""
    for index in dropped:
        model.base_model.layers[index].register_forward_hook(
            lambda layer, given, named, out: given[0] if given else named["hidden_states"], with_kwargs=True
        )
    return model


def test_all_families_for_students_are_tried() -> None:
    assert set(VISION_FAMILIES) == set(FAMILIES) - {"gpt_neox"}


@pytest.mark.parametrize("keep", [[0, 3], [1, 2]], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_the_whole_one_without_the_other_layers(family: str, keep: list[int]) -> None:
    cut = tiny_language_model(family, layers=4)
    cut_layers(cut, keep)
    expected = without(tiny_language_model(family, layers=4), set(range(4)) - set(keep))
    torch.testing.assert_close(logits(cut), logits(expected), rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_agrees_with_its_cache_and_with_its_reload(family: str, tmp_path: Path) -> None:
    cut = tiny_language_model(family, layers=4)
    cut_layers(cut, [3, 0])
    expected = logits(cut)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    written = cut.generate(IDS[:, :5], use_cache=True, output_logits=True, **options)
    with torch.no_grad():
        at_once = cut(input_ids=written.sequences[:, :-1], use_cache=False).logits[:, 4:]
    torch.testing.assert_close(torch.stack(written.logits, dim=1), at_once, rtol=1e-4, atol=1e-5)
    cut.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path).eval()), expected)


def test_lists_of_a_config_are_cut_by_their_length() -> None:
    config = tiny_language_model("smollm3", layers=3).config
    config.eos_token_id = [2, 3, 4]  # as long as there are layers, by chance
    config.no_rope_layers = [1, 0, 1]
    cut_config(config, [2, 1])
    assert (config.num_hidden_layers, config.no_rope_layers, config.eos_token_id) == (2, [1, 0], [2, 3, 4])
    qwen = tiny_language_model("qwen2", layers=4).config
    cut_config(qwen, [0, 2])
    assert (qwen.layer_types, qwen.max_window_layers) == (["full_attention", "sliding_attention"], 1)
    lfm = tiny_language_model("lfm2", layers=4).config
    cut_config(lfm, [3, 0])
    assert (lfm.layer_types, lfm.full_attn_idxs) == (["full_attention", "conv"], [0])


def load(source: Path, **options: Any) -> tuple[Any, Any]:
    weights = options.pop("load_weights", True)
    return load_language_model(LanguageModelSpec(source=str(source), **options), load_weights=weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_weights_has_the_same_shape(family: str, tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path / "model", family, layers=4)
    whole, tokenizer = load(folder, layers=[3, 1])
    (folder / "model.safetensors").write_bytes(b"not to be read")
    with torch.device("meta"):
        empty, same = load(folder, layers=[3, 1], load_weights=False)
    assert all(p.is_meta for p in empty.parameters())
    assert not empty.training
    assert {n: p.shape for n, p in empty.named_parameters()} == {n: p.shape for n, p in whole.named_parameters()}
    assert empty.config.to_dict() == {
        **whole.config.to_dict(),
        "_name_or_path": empty.config.to_dict()["_name_or_path"],
    }
    assert same.get_vocab() == tokenizer.get_vocab()
    real, _ = load(folder, load_weights=False)
    assert torch.isfinite(logits(real)).all()


def write_gguf(file: Path, model: Any, tensors: bool) -> None:
    """A Llama as llama.cpp writes it; without tensors it has nothing but metadata (and no head of its own)."""
    from gguf import GGUFWriter

    config, vocabulary = model.config, tiny_tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    tokens += ["ab"] + [f"<unused{i}>" for i in range(config.vocab_size - len(tokens) - 1)]
    writer = GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output"}
    names |= {f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"}
    names |= {f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    if tensors:
        writer.add_tensor("token_embd.weight", model.model.embed_tokens.weight.detach().numpy())
        writer.add_tensor("output_norm.weight", model.model.norm.weight.detach().numpy())
        for index, layer in enumerate(model.model.layers):
            for name, parameter in layer.named_parameters():
                stored = names[name.removesuffix(".weight")]
                writer.add_tensor(f"blk.{index}.{stored}.weight", parameter.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_gives_config_and_tokenizer_without_its_tensors(tmp_path: Path) -> None:
    model = tiny_language_model("llama", layers=4, tied=True)
    write_gguf(tmp_path / "whole.gguf", model, tensors=True)
    write_gguf(tmp_path / "metadata.gguf", model, tensors=False)
    whole, tokenizer = load(tmp_path, gguf_file="whole.gguf", layers=2)
    with torch.device("meta"):
        empty, same = load(tmp_path, gguf_file="metadata.gguf", layers=2, load_weights=False)
    assert {n: p.shape for n, p in empty.named_parameters()} == {n: p.shape for n, p in whole.named_parameters()}
    assert empty.config.tie_word_embeddings
    assert same.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(UserError, match=r"GGUF file not found: .*gone\.gguf"):
        load(tmp_path, gguf_file="gone.gguf", load_weights=False)


def test_a_gguf_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "first.gguf", tiny_language_model("llama", layers=2), tensors=True)
    write_gguf(tmp_path / "second.gguf", tiny_language_model("llama", layers=3), tensors=True)
    load(tmp_path, gguf_file="first.gguf", load_weights=False)
    whole, _ = load(tmp_path, gguf_file="second.gguf")
    monkeypatch.setattr("gguf.GGUFReader.__init__", lambda *_: pytest.fail("parsed again"))
    for name in ("first", "second"):
        model, tokenizer = load(tmp_path, gguf_file=f"{name}.gguf", load_weights=False)
        assert tokenizer("Hello").input_ids
        assert not model.config.to_dict().get("quantization_config")
    again, _ = load(tmp_path, gguf_file="second.gguf")
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), whole.parameters(), strict=True))


def student_spec(source: Path, vision: bool) -> StudentSpec:
    parts = {
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "image_token": "<empty_output>",
    }
    return StudentSpec.model_validate({"language_model": {"source": str(source)}, **(parts if vision else {})})


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_a_vision_student_of_every_family_starts_with_features_as_large_as_tokens(family: str, tmp_path: Path) -> None:
    student, _ = build_student(student_spec(save_tiny_language_model(tmp_path / "model", family), vision=True))
    image, model = student.image_token_id, student.language_model
    ids = torch.tensor([[5, *[image] * 4, 9, 10]])
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    student(ModelInputs(ids, torch.ones_like(ids), torch.arange(7), pixels)).sum().backward()
    assert student.projector is not None
    assert all(p.grad is not None for p in student.projector.parameters())
    words: Any = model.get_input_embeddings()  # type: ignore[operator]
    spread = float(words(torch.arange(264)).detach().std())
    assert embedding_std(model) == pytest.approx(spread, rel=0.05)
    out = student.projector(torch.randn(300, 4, student.projector.contract.feature_dim))  # type: ignore[union-attr, arg-type]
    assert float(out.detach().std()) == pytest.approx(spread, rel=0.2)


def test_gpt_neox_is_a_plain_language_model_only(tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path / "pythia", "gpt_neox")
    student, _ = build_student(student_spec(folder, vision=False))
    rows = ModelInputs(IDS, torch.ones_like(IDS), torch.arange(IDS.shape[1]))
    torch.testing.assert_close(student(rows).detach(), logits(student.language_model)[0])
    with pytest.raises(
        UserError, match=r"family 'gpt_neox' cannot be that of a vision student.*Choose one of llama, qwen2"
    ):
        build_student(student_spec(folder, vision=True))
