"""Language models of a few hundred kilobytes, with a byte-level tokenizer that knows ChatML."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>"]


def tiny_tokenizer(extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Every byte is a token; special tokens come first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *alphabet, *extra])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")


def tiny_llama(
    layers: int = 3, hidden: int = 32, vocabulary: int = 264, seed: int = 0, tied: bool = True
) -> LlamaForCausalLM:
    """Random Llama; its head may have more rows than the tokenizer has tokens, as real ones do."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)


# What makes each family itself, so small that eight tokens leave every window: windows, layers without positions,
# factors, biases. The keys are transformers' model types.
WINDOW = 8
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2},
    "phi3": {},
    "mistral": {"sliding_window": WINDOW},
    "olmo2": {},
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    "smollm3": {"no_rope_layer_interval": 2},
    "gpt_neox": {},
    "lfm2": {"full_attn_idxs": [1, 3], "block_auto_adjust_ff_dim": False},
    "exaone4": {"sliding_window": WINDOW, "sliding_window_pattern": 2},
}
HEAD_DIM = ("gemma2", "gemma3_text", "qwen3")


def tiny_language_model(
    family: str, layers: int = 3, hidden: int = 32, vocabulary: int = 264, seed: int = 0, tied: bool | None = None
) -> Any:
    """Random model of a real architecture; ``tied`` None is the family's own habit."""
    options = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        **FAMILIES[family],
    }
    if family in HEAD_DIM:
        options["head_dim"] = hidden // 4
    if tied is not None:
        options["tie_word_embeddings"] = tied
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **options)).eval()


def save_tiny_language_model(folder: Path, family: str, **options: Any) -> Path:
    """Checkpoint folder with tokenizer; options of :func:`tiny_language_model`."""
    tiny_language_model(family, **options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_llama(folder: Path, **options: int) -> Path:
    """Checkpoint folder with tokenizer."""
    tiny_llama(**options).save_pretrained(folder)  # type: ignore[arg-type]
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_chatty_llama(folder: Path, seed: int = 4) -> Path:
    """Checkpoint whose weights are so large that its (meaningless) answers depend on all that came before."""
    model = tiny_llama(seed=seed, tied=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(50 if "embed" in name else 8)
        model.lm_head.weight[: len(SPECIALS)] = 0  # words only
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def end_at_the_limit(folder: Path, token: int) -> Path:
    """Have a checkpoint end whatever it generates with this token at the limit, at the latest."""
    file = folder / "generation_config.json"
    options = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**options, "forced_eos_token_id": token}))
    return folder
