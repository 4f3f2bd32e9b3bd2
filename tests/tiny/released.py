"""Stand-ins of a few hundred kilobytes for the models that the shipped recipes name on the hub.

Each has the architecture of the released one, its tokenizer's class and special tokens in their order, and spare rows in the head where that
has some. The words are learnt from a few lines, so ids are others; what agrees between two released tokenizers agrees here.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from tokenizers import AddedToken
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    Qwen2Tokenizer,
)

from tests.tiny import native
from tests.tiny.internvl2 import save_original
from tests.tiny.tokenizers import _merges, _sentencepiece, _without_specials
from tests.tiny.vision import save_tiny_transformers

PHI3 = [
    *("<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>"),
    *("<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>"),
]
QWEN2 = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_5 = [
    *QWEN2,
    *(f"<|{kind}_{end}|>" for kind in ("object_ref", "box", "quad", "vision") for end in ("start", "end")),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]
TOOLS = ["<tool_call>", "</tool_call>"]  # no special ones
CODE = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
THOUGHTS = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
INTERNVL3 = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>"]
SMOLLM2 = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<empty_output>"]
SMOLVLM2 = [
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    *("<fake_token_around_image>", "<image>"),
    *(f"<|reserved_special_token_{index}|>" for index in range(88)),
    "<end_of_utterance>",
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{{ '<IMG_CONTEXT>\n' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NEOX_SPACES = [" " * count for count in range(8, 1, -1)]


@lru_cache
def _words(byte_level: bool) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Tokens and merges, without special tokens."""
    if byte_level:
        model = json.loads(_without_specials("bytes"))["model"]
        merges = tuple(tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"])
        return tuple(sorted(model["vocab"], key=model["vocab"].__getitem__)), merges
    tokenizer = _sentencepiece("prefix")
    vocabulary = tokenizer.get_vocab()
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__)), tuple(_merges(tokenizer))


def _made(
    make: Any, first: Sequence[str], special: Sequence[str], plain: Sequence[str] = (), **options: Any
) -> Callable[[], Any]:
    """A maker of tokenizers: ``first``, the words, ``special``; then what is a token and not special."""

    def tokenizer() -> Any:
        words, merges = _words(make is not LlamaTokenizer)
        tokens = dict.fromkeys([*first, *words, *special])
        made = make(vocab={token: index for index, token in enumerate(tokens)}, merges=list(merges), **options)
        swallows = PHI3[1:] if "<|assistant|>" in special else ()
        names = [token for token in (*first, *special) if token.startswith("<") and token != "<unk>"]
        made.add_tokens([AddedToken(t, rstrip=t in swallows, normalized=False, special=True) for t in names])
        made.add_tokens([AddedToken(token, normalized=False) for token in plain])
        return made

    return tokenizer


LLAMA = _made(LlamaTokenizer, ["<unk>", "<s>", "</s>"], [], add_bos_token=True, pad_token=None)
PHI = _made(
    LlamaTokenizer,
    ["<unk>", "<s>", "</s>"],
    PHI3,
    eos_token="<|endoftext|>",
    pad_token="<|endoftext|>",
    add_bos_token=False,
)
NEOX = _made(GPTNeoXTokenizer, ["<|endoftext|>", "<|padding|>"], [], NEOX_SPACES, pad_token=None)
QWEN_WORDS: dict[str, Any] = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
QWEN2_WORDS = _made(Qwen2Tokenizer, [], QWEN2, **QWEN_WORDS)
QWEN2_5_WORDS = _made(Qwen2Tokenizer, [], [*QWEN2_5, *CODE], TOOLS, **QWEN_WORDS)
QWEN3_WORDS = _made(Qwen2Tokenizer, [], [*QWEN2_5, *CODE], [*TOOLS, *THOUGHTS], **QWEN_WORDS)
INTERNVL3_WORDS = _made(
    Qwen2Tokenizer,
    [],
    [*QWEN2_5, *CODE, *INTERNVL3],
    **QWEN_WORDS,
    extra_special_tokens=native.NAMED["internvl"],
)
SMOL_NAMES: dict[str, Any] = {"bos_token": "<|im_start|>", "pad_token": "<|im_end|>"}
SMOLLM2_WORDS = _made(GPT2Tokenizer, SMOLLM2, [], eos_token="<|im_end|>", **SMOL_NAMES)
SMOLVLM2_WORDS = _made(GPT2Tokenizer, SMOLLM2, SMOLVLM2, eos_token="<end_of_utterance>", **SMOL_NAMES)

# Hub id: architecture, tokenizer, spare rows of the head, tied to the embedding.
LANGUAGE_MODELS: dict[str, tuple[str, Callable[[], Any], int, bool]] = {
    "TinyLlama/TinyLlama_v1.1": ("llama", LLAMA, 0, False),
    "microsoft/Phi-3-mini-4k-instruct": ("phi3", PHI, 53, False),
    "microsoft/Phi-3-medium-4k-instruct": ("phi3", PHI, 53, False),
    "meta-llama/Llama-2-7b-chat-hf": ("llama", LLAMA, 0, False),
    "stabilityai/stablelm-zephyr-3b": ("stablelm", NEOX, 27, False),
    "EleutherAI/pythia-70m": ("gpt_neox", NEOX, 27, False),
    "EleutherAI/pythia-410m": ("gpt_neox", NEOX, 27, False),
    "EleutherAI/pythia-1b": ("gpt_neox", NEOX, 27, False),
    "EleutherAI/pythia-2.8b": ("gpt_neox", NEOX, 27, False),
    "EleutherAI/pythia-6.9b": ("gpt_neox", NEOX, 155, False),
    "Qwen/Qwen2-1.5B-Instruct": ("qwen2", QWEN2_WORDS, 290, True),
    "Qwen/Qwen2-72B-Instruct": ("qwen2", QWEN2_WORDS, 418, False),
    "Qwen/Qwen3-0.6B": ("qwen3", QWEN3_WORDS, 267, True),
    "Qwen/Qwen3-8B": ("qwen3", QWEN3_WORDS, 267, False),
    "HuggingFaceTB/SmolLM2-360M-Instruct": ("llama", SMOLLM2_WORDS, 0, True),
}
VISION_LANGUAGE_MODELS: dict[str, tuple[str, Callable[[], Any], int]] = {
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": ("smolvlm", SMOLVLM2_WORDS, 0),
    "Qwen/Qwen2.5-VL-7B-Instruct": ("qwen2_5_vl", QWEN2_5_WORDS, 399),
    "Qwen/Qwen3-VL-8B-Instruct": ("qwen3_vl", QWEN3_WORDS, 267),
    "OpenGVLab/InternVL3-8B-hf": ("internvl", INTERNVL3_WORDS, 0),
    "OpenGVLab/InternVL3-1B-hf": ("internvl", INTERNVL3_WORDS, 0),
}
INTERNVL2 = {"OpenGVLab/InternVL2-8B": 1, "OpenGVLab/InternVL2-2B": 0}  # and the seed of its weights
ENCODERS = ("google/siglip-base-patch16-512", "google/siglip2-base-patch16-512")


def released_models() -> list[str]:
    """Hub ids that can be stood in for."""
    return [*LANGUAGE_MODELS, *VISION_LANGUAGE_MODELS, *INTERNVL2, *ENCODERS]


def save_released(hub_id: str, folder: Path) -> Path:
    """The stand-in of a released model."""
    if hub_id in LANGUAGE_MODELS:
        return _language_model(folder, *LANGUAGE_MODELS[hub_id])
    if hub_id in VISION_LANGUAGE_MODELS:
        return _vision_language_model(folder, *VISION_LANGUAGE_MODELS[hub_id])
    if hub_id in INTERNVL2:
        save_original(folder, text={"max_position_embeddings": 1024}, seed=INTERNVL2[hub_id])
        return folder
    assert hub_id in ENCODERS, hub_id
    return save_tiny_transformers(folder, "siglip_dual")


def _language_model(folder: Path, family: str, words: Callable[[], Any], spare: int, tied: bool) -> Path:
    tokenizer = words()
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer) + spare,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "qwen3":
        options["head_dim"] = 8
    torch.manual_seed(crc32(folder.name.encode()))
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **options)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _vision_language_model(folder: Path, family: str, words: Callable[[], Any], spare: int) -> Path:
    tokenizer = words()
    config = _with_own_ids(native._configs(len(tokenizer) + spare)[family], tokenizer)
    torch.manual_seed(crc32(folder.name.encode()))
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(family, **config))
    model.save_pretrained(folder)
    processor = native.MAKERS[family](tokenizer)
    processor.chat_template = CHATML if family == "internvl" else None  # by it a student's template is told
    processor.save_pretrained(folder)
    return folder


def _with_own_ids(config: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The ids of special tokens in a config, which are those of ``native.SPECIALS``, as this tokenizer has them."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            value = _with_own_ids(value, tokenizer)
        elif key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(tokenizer, key)
        elif key.endswith(("token_id", "token_index")) and isinstance(value, int):
            found = tokenizer.convert_tokens_to_ids(native.SPECIALS[value])
            value = value if found is None else found
        out[key] = value
    return out
