"""Configs of published models without their weights, and samples of chosen lengths, for plans at scale.

The numbers are those of the checkpoints' own config.json. InternLM2 is a Llama with its attention matrices in one, so it stands here
as the Llama of that size. In place of the real tokenizers stands one of bytes that has as many tokens, so that a text of n ASCII
letters has n tokens, and the heads are as large as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, CLIPImageProcessor, PreTrainedTokenizerFast
from transformers import models as families

Shape = Mapping[str, Any]
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
VIT_300M = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
INTERNLM2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 92553,
}
INTERNLM2_1_8B = {
    **INTERNLM2_7B,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
QWEN2_72B = {
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
}
QWEN2_1_5B = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN2_TOKENS = 151646
POSITIONS = 32768


def byte_tokenizer(tokens: int) -> PreTrainedTokenizerFast:
    """Every byte is a token; names that no text has fill the rest of ``tokens``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = [*SPECIALS, *alphabet]
    words = own + [f"unused {index}" for index in range(len(own), tokens)]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, [], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )


def language_model_folder(folder: Path, family: str, shape: Shape, tokens: int) -> Path:
    """Config and tokenizer of a language model; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    AutoConfig.for_model(family, **_text(shape)).save_pretrained(folder)
    byte_tokenizer(tokens).save_pretrained(folder)
    return folder


def vision_folder(folder: Path, shape: Shape, side: int, patch: int) -> Path:
    """Config and preprocessing of an InternViT."""
    folder.mkdir(parents=True, exist_ok=True)
    AutoConfig.for_model("internvl_vision", **_eyes(shape, side, patch)).save_pretrained(folder)
    size = {"height": side, "width": side}
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size).save_pretrained(folder)
    return folder


def internvl_folder(folder: Path, eyes: Shape, text: Shape, side: int, patch: int, tiles: int, tokens: int) -> Path:
    """A native InternVL with a Llama, and its processor; up to ``tiles`` tiles of a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    per_tile = (side // patch // 2) ** 2
    AutoConfig.for_model(
        "internvl",
        vision_config={"model_type": "internvl_vision", **_eyes(eyes, side, patch)},
        text_config={"model_type": "llama", **_text(text)},
        image_token_id=SPECIALS.index("<IMG_CONTEXT>"),
        image_seq_length=per_tile,
        tie_word_embeddings=False,
    ).save_pretrained(folder)
    size = {"height": side, "width": side}
    pictures = families.got_ocr2.GotOcr2ImageProcessor(size=size, max_patches=tiles)
    videos = families.internvl.InternVLVideoProcessor(size=size)
    tokenizer = byte_tokenizer(tokens)
    families.internvl.InternVLProcessor(pictures, tokenizer, videos, image_seq_length=per_tile).save_pretrained(folder)
    return folder


def picture_records(folder: Path, count: int, size: tuple[int, int], question: int, answer: int) -> Path:
    """JSON lines: a picture, a question and an answer of so many letters."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        Image.new("RGB", size, (index % 256, 0, 0)).save(folder / f"{index}.png")
        asked = [{"type": "image"}, {"type": "text", "text": _letters(question, index)}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": _letters(answer, index)}]
        lines.append(json.dumps({"id": str(index), "messages": messages, "images": [f"{index}.png"]}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def text_records(folder: Path, count: int, length: int) -> Path:
    """JSON lines with texts of so many letters."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": str(index), "text": _letters(length, index)}) for index in range(count)]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _letters(length: int, index: int) -> str:
    return f"{index:04d} ".ljust(length, "a")[:length]


def _text(shape: Shape) -> dict[str, Any]:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {"max_position_embeddings": POSITIONS, "tie_word_embeddings": False, **ids, **shape}


def _eyes(shape: Shape, side: int, patch: int) -> dict[str, Any]:
    return {**shape, "image_size": [side, side], "patch_size": [patch, patch], "attention_bias": True}
