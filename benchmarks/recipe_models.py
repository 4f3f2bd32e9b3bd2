"""Stand-ins without weights for the models that the shipped recipes name: configs of the released sizes, and tokenizers of as many tokens.

The sizes are quoted from memory. Each tokenizer has its family's special tokens in their order, so that a pair shares what the released pair
shares; its words are single bytes, so that a text of n ASCII letters has n tokens.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scaling_models import INTERNLM2_1_8B, INTERNLM2_7B, QWEN2_1_5B, QWEN2_72B, VIT_300M
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, CLIPImageProcessor, PreTrainedTokenizerFast, SiglipImageProcessor
from transformers import models as families

POSITIONS = 32768
LLAMA = ("<unk>", "<s>", "</s>")
PHI3 = (
    *("<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>"),
    *("<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>"),
)
NEOX = ("<|endoftext|>", "<|padding|>")
QWEN2 = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN2_5 = (
    *QWEN2,
    *(f"<|{kind}_{end}|>" for kind in ("object_ref", "box", "quad", "vision") for end in ("start", "end")),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
QWEN3 = (*QWEN2_5, "<tool_response>", "</tool_response>", "<think>", "</think>")
INTERNVL = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>")
SMOLLM2 = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SMOLVLM2 = (
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    *("<fake_token_around_image>", "<image>"),
    *(f"<|reserved_special_token_{index}|>" for index in range(88)),
    "<end_of_utterance>",
)
BY_INTERNVL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def tokenizer_of(words: int, first: Sequence[str], last: Sequence[str], **roles: Any) -> PreTrainedTokenizerFast:
    """Special tokens, every byte, names that no text has up to ``words``, special tokens."""
    own = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = [*own, *(f"unused {index}" for index in range(len(own), words)), *last]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, [], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*first, *last])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


_QWEN: dict[str, Any] = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_SMOL: dict[str, Any] = {"bos_token": "<|im_start|>", "pad_token": "<|im_end|>"}
_PHI: dict[str, Any] = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
TOKENIZERS = {
    "llama": partial(tokenizer_of, 32000, LLAMA, (), bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
    "phi3": partial(tokenizer_of, 32000, LLAMA, PHI3, **_PHI),
    "neox": partial(tokenizer_of, 50277, NEOX, (), bos_token=NEOX[0], eos_token=NEOX[0]),
    "qwen2": partial(tokenizer_of, 151643, (), QWEN2, **_QWEN),
    "qwen2_5": partial(tokenizer_of, 151643, (), QWEN2_5, **_QWEN),
    "qwen3": partial(tokenizer_of, 151643, (), QWEN3, **_QWEN),
    "internvl3": partial(
        tokenizer_of, 151643, (), (*QWEN2_5, *INTERNVL), **_QWEN, extra_special_tokens=dict(BY_INTERNVL)
    ),
    "internlm2": partial(
        tokenizer_of,
        92553 - len(INTERNVL) - 2,
        LLAMA,
        ("<|im_start|>", "<|im_end|>", *INTERNVL),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        extra_special_tokens=dict(BY_INTERNVL),
    ),
    "smollm2": partial(tokenizer_of, 49152, SMOLLM2, (), eos_token="<|im_end|>", **_SMOL),
    "smolvlm2": partial(tokenizer_of, 49152, SMOLLM2, SMOLVLM2, eos_token="<end_of_utterance>", **_SMOL),
}


def _shape(hidden: int, inner: int, layers: int, heads: int, keys: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        **more,
    }


QWEN2_5_7B, QWEN2_5_0_5B = (3584, 18944, 28, 28, 4), (896, 4864, 24, 14, 2)
QWEN3_8B = _shape(4096, 12288, 36, 32, 8, 151936, head_dim=128)
# Hub id, or folder of the cache: architecture, sizes, tokenizer.
LANGUAGE_MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "TinyLlama/TinyLlama_v1.1": ("llama", _shape(2048, 5632, 22, 32, 4, 32000), "llama"),
    "microsoft/Phi-3-mini-4k-instruct": ("phi3", _shape(3072, 8192, 32, 32, 32, 32064), "phi3"),
    "microsoft/Phi-3-medium-4k-instruct": ("phi3", _shape(5120, 17920, 40, 40, 10, 32064), "phi3"),
    "meta-llama/Llama-2-7b-chat-hf": ("llama", _shape(4096, 11008, 32, 32, 32, 32000), "llama"),
    "stabilityai/stablelm-zephyr-3b": ("stablelm", _shape(2560, 6912, 32, 32, 32, 50304), "neox"),
    "EleutherAI/pythia-70m": ("gpt_neox", _shape(512, 2048, 6, 8, 8, 50304), "neox"),
    "EleutherAI/pythia-410m": ("gpt_neox", _shape(1024, 4096, 24, 16, 16, 50304), "neox"),
    "EleutherAI/pythia-1b": ("gpt_neox", _shape(2048, 8192, 16, 8, 8, 50304), "neox"),
    "EleutherAI/pythia-2.8b": ("gpt_neox", _shape(2560, 10240, 32, 32, 32, 50304), "neox"),
    "EleutherAI/pythia-6.9b": ("gpt_neox", _shape(4096, 16384, 32, 32, 32, 50432), "neox"),
    "Qwen/Qwen2-1.5B-Instruct": ("qwen2", QWEN2_1_5B, "qwen2"),
    "Qwen/Qwen2-72B-Instruct": ("qwen2", QWEN2_72B, "qwen2"),
    "Qwen/Qwen3-0.6B": (
        "qwen3",
        _shape(1024, 3072, 28, 16, 8, 151936, head_dim=128, tie_word_embeddings=True),
        "qwen3",
    ),
    "Qwen/Qwen3-8B": ("qwen3", QWEN3_8B, "qwen3"),
    "HuggingFaceTB/SmolLM2-360M-Instruct": (
        "llama",
        _shape(960, 2560, 32, 15, 5, 49152, tie_word_embeddings=True),
        "smollm2",
    ),
    "cache:students/InternVL2-2B/language_model": ("llama", INTERNLM2_1_8B, "internlm2"),
    "cache:students/InternVL3-1B/language_model": ("qwen2", _shape(*QWEN2_5_0_5B, 151675), "internvl3"),
}
SIGLIP_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
# And the side of a picture, and of a patch.
ENCODERS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "google/siglip-base-patch16-512": ("siglip_vision_model", SIGLIP_B, 512, 16),
    "google/siglip2-base-patch16-512": ("siglip_vision_model", SIGLIP_B, 512, 16),
    "cache:students/InternVL2-2B/vision_encoder": ("internvl_vision", VIT_300M, 448, 14),
    "cache:students/InternVL3-1B/vision_encoder": ("internvl_vision", VIT_300M, 448, 14),
}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}


def language_model_folder(folder: Path, name: str) -> Path:
    """Config and tokenizer."""
    family, shape, tokenizer = LANGUAGE_MODELS[name]
    folder.mkdir(parents=True)
    AutoConfig.for_model(family, **_text(shape)).save_pretrained(folder)
    TOKENIZERS[tokenizer]().save_pretrained(folder)
    return folder


def encoder_folder(folder: Path, name: str) -> Path:
    """Config and preprocessing."""
    family, shape, side, patch = ENCODERS[name]
    folder.mkdir(parents=True)
    AutoConfig.for_model(family, **_eyes(family, shape, side, patch)).save_pretrained(folder)
    size = {"height": side, "width": side}
    if family == "internvl_vision":
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size).save_pretrained(folder)
    else:
        SiglipImageProcessor(size=size).save_pretrained(folder)
    return folder


def teacher_folder(folder: Path, name: str) -> Path:
    """Config and processor of a stock vision-language model."""
    config, processor = TEACHERS[name]()
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _internvl(family: str, shape: dict[str, Any], words: str) -> tuple[Any, Any]:
    tokenizer, size = TOKENIZERS[words](), {"height": 448, "width": 448}
    config = AutoConfig.for_model(
        "internvl",
        vision_config={"model_type": "internvl_vision", **_eyes("internvl_vision", VIT_300M, 448, 14)},
        text_config={"model_type": family, **_text(shape)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=256,
        tie_word_embeddings=False,
    )
    pictures = families.got_ocr2.GotOcr2ImageProcessor(size=size, max_patches=12)
    videos = families.internvl.InternVLVideoProcessor(size=size)
    return config, families.internvl.InternVLProcessor(pictures, tokenizer, videos, image_seq_length=256)


def _smolvlm2() -> tuple[Any, Any]:
    tokenizer = TOKENIZERS["smolvlm2"]()
    config = AutoConfig.for_model(
        "smolvlm",
        vision_config={**SO400M, "model_type": "smolvlm_vision", "num_hidden_layers": 27, "image_size": 384}
        | {"patch_size": 14},
        text_config={"model_type": "llama", **_text(_shape(2048, 8192, 24, 32, 32, 49280))},
        scale_factor=3,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    sizes: dict[str, Any] = {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}}
    pictures = families.smolvlm.SmolVLMImageProcessor(**sizes)
    videos = families.smolvlm.SmolVLMVideoProcessor(**sizes)
    return config, families.smolvlm.SmolVLMProcessor(pictures, tokenizer, videos, image_seq_len=81)


def _qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = TOKENIZERS["qwen2_5"]()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    eyes = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    patches = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    windows = {"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}
    text = {"model_type": "qwen2_5_vl_text", **_text(_shape(*QWEN2_5_7B, 152064)), "rope_parameters": rope}
    config = AutoConfig.for_model(
        "qwen2_5_vl", text_config=text, vision_config={**eyes, **patches, **windows}, **_qwen_ids(tokenizer)
    )
    pictures = families.qwen2_vl.Qwen2VLImageProcessor(
        patch_size=14, merge_size=2, size={"shortest_edge": 56**2, "longest_edge": 3584**2}
    )
    videos = families.qwen2_vl.Qwen2VLVideoProcessor(patch_size=14)
    return config, families.qwen2_5_vl.Qwen2_5_VLProcessor(pictures, tokenizer, videos)


def _qwen3_vl() -> tuple[Any, Any]:
    tokenizer = TOKENIZERS["qwen3"]()
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    eyes = {**SO400M, "depth": 27, "num_heads": 16, "out_hidden_size": 4096, "num_position_embeddings": 2304}
    patches = {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
    text = {"model_type": "qwen3_vl_text", **_text(QWEN3_8B), "rope_parameters": rope}
    config = AutoConfig.for_model(
        "qwen3_vl",
        text_config=text,
        vision_config={**eyes, **patches, "deepstack_visual_indexes": [8, 16, 24]},
        **_qwen_ids(tokenizer),
    )
    pictures = families.qwen2_vl.Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, size={"shortest_edge": 256**2, "longest_edge": 4096**2}
    )
    videos = families.qwen3_vl.Qwen3VLVideoProcessor(patch_size=16)
    return config, families.qwen3_vl.Qwen3VLProcessor(pictures, tokenizer, videos)


TEACHERS = {
    "OpenGVLab/InternVL2-8B": partial(_internvl, "llama", INTERNLM2_7B, "internlm2"),
    "OpenGVLab/InternVL3-8B-hf": partial(_internvl, "qwen2", _shape(*QWEN2_5_7B, 151675), "internvl3"),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": _smolvlm2,
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen2_5_vl,
    "Qwen/Qwen3-VL-8B-Instruct": _qwen3_vl,
}


def _qwen_ids(tokenizer: Any) -> dict[str, Any]:
    named = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in named.items()}


def _text(shape: dict[str, Any]) -> dict[str, Any]:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {"max_position_embeddings": POSITIONS, "tie_word_embeddings": False, **ids, **shape}


def _eyes(family: str, shape: dict[str, Any], side: int, patch: int) -> dict[str, Any]:
    if family == "internvl_vision":
        return {**shape, "image_size": [side, side], "patch_size": [patch, patch], "attention_bias": True}
    return {**shape, "image_size": side, "patch_size": patch}
