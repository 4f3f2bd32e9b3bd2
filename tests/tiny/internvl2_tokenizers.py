"""Tokenizers of a few hundred tokens in the forms in which InternVL2 was released."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import import_protobuf

PICTURE_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
INTERNLM2_TOKENS = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PHI3_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
WORDS = ("th", "he", "the", "in", "is", "▁is", "▁t", "▁th", "▁the", "wh", "▁wh", "at", "▁▁", "\n\n")


def sentencepiece_model(pieces_at_the_end: tuple[str, ...] = (), dummy_prefix: bool = False) -> Any:
    """A byte-pair model with byte fallback, made by hand, so that no test of weights needs the sentencepiece package."""
    proto = import_protobuf().ModelProto()

    def add(piece: str, score: float, kind: int) -> None:
        one = proto.pieces.add()
        one.piece, one.score, one.type = piece, score, kind

    add("<unk>", 0.0, 2)
    add("<s>", 0.0, 3)
    add("</s>", 0.0, 3)
    for value in range(256):
        add(f"<0x{value:02X}>", 0.0, 6)
    for rank, word in enumerate(WORDS):
        add(word, -float(rank), 1)
    letters = sorted({"▁", "\n", *"".join(WORDS), *"abcdefghijklmnopqrstuvwxyzABIW?.,!"})
    for rank, letter in enumerate(letters):
        add(letter, -float(len(WORDS) + rank), 1)
    for index, _ in enumerate(pieces_at_the_end):
        add(f"[UNUSED_TOKEN_{index}]", 0.0, 3)
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id, proto.trainer_spec.bos_id, proto.trainer_spec.eos_id = 0, 1, 2
    proto.normalizer_spec.add_dummy_prefix = dummy_prefix
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return proto


def _added(tokens: tuple[str, ...], first: int, **flags: bool) -> dict[str, Any]:
    usual = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {str(first + index): {"content": token, **usual, **flags} for index, token in enumerate(tokens)}


def _write_internlm2_tokenizer(folder: Path) -> int:
    proto = sentencepiece_model(INTERNLM2_TOKENS)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    count = len(proto.pieces)
    about = {
        "added_tokens_decoder": {
            **_added(("<unk>", "<s>", "</s>"), 0),
            **_added((*INTERNLM2_TOKENS, *PICTURE_TOKENS), count - len(INTERNLM2_TOKENS)),
        },
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "tokenizer_class": "InternLM2Tokenizer",
        **{"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"},
        "model_max_length": 8192,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return count + len(PICTURE_TOKENS)


def _write_qwen2_tokenizer(folder: Path) -> int:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    about = {
        "added_tokens_decoder": _added((*QWEN_TOKENS, *PICTURE_TOKENS), len(tokens)),
        "tokenizer_class": "Qwen2Tokenizer",
        **{"unk_token": None, "bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        "model_max_length": 8192,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return len(tokens) + len(QWEN_TOKENS) + len(PICTURE_TOKENS)


def _write_phi3_tokenizer(folder: Path) -> int:
    proto = sentencepiece_model(dummy_prefix=True)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    count = len(proto.pieces)
    about = {
        "added_tokens_decoder": {
            **_added(("<unk>", "<s>", "</s>"), 0),
            **_added(PHI3_TOKENS, count, rstrip=True),
            **_added(PICTURE_TOKENS, count + len(PHI3_TOKENS)),
        },
        "tokenizer_class": "LlamaTokenizer",
        **{"add_bos_token": False, "add_eos_token": False, "legacy": False},
        **{"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        "model_max_length": 8192,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return count + len(PHI3_TOKENS) + len(PICTURE_TOKENS)


TOKENIZERS: dict[str, Callable[[Path], int]] = {
    "internlm2": _write_internlm2_tokenizer,
    "llama": _write_internlm2_tokenizer,
    "qwen2": _write_qwen2_tokenizer,
    "phi3": _write_phi3_tokenizer,
}
