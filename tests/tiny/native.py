"""Checkpoints of a few hundred kilobytes of every stock vision-language family that can teach, with the family's real processor.

All share one byte-level tokenizer that knows the special tokens of all families, so that any student can learn from any of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers import models as families

BOS, EOS, TURN = "<s>", "</s>", "<|im_end|>"
SPECIALS = [
    *("<|endoftext|>", "<|im_start|>", TURN, BOS, EOS, "<empty_output>"),
    *("<img>", "</img>", "<IMG_CONTEXT>", "<video>", "<image>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)),
    *("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_turn>"),
]
VOCABULARY = len(SPECIALS) + 256
HEAD = VOCABULARY + 21  # rows that no token has, as in Qwen's 151,936 for 151,665 tokens
SIDE, PATCH = 32, 8

# Where a family's tokenizer opens every text with a token of its own.
OPENED = ("llava", "llava_next", "gemma3")
# By these names a family's processor asks its tokenizer.
NAMED: dict[str, dict[str, str]] = {
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "gemma3": {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    },
}


def native_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Every byte is a token; special tokens come first, and their ids are the same in all families."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    if family in OPENED:
        opening = (BOS, vocabulary[BOS])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[opening]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS if family in OPENED else "<|im_start|>",
        eos_token=EOS if family in ("llava", "llava_next") else TURN,
        pad_token="<|endoftext|>",
        extra_special_tokens=NAMED.get(family, {}),
    )


def _text(model_type: str, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": SPECIALS.index(BOS),
        "eos_token_id": SPECIALS.index(TURN),
        "pad_token_id": 0,
        **more,
    }


def _vit(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        **more,
    }


def _token(name: str) -> int:
    return SPECIALS.index(name)


ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
QWEN_TOKENS = {
    "image_token_id": _token("<|image_pad|>"),
    "video_token_id": _token("<|video_pad|>"),
    "vision_start_token_id": _token("<|vision_start|>"),
    "vision_end_token_id": _token("<|vision_end|>"),
}
QWEN_EYES = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
PINPOINTS = [[32, 32], [32, 64], [64, 32], [64, 64]]


def _configs(vocabulary: int) -> dict[str, dict[str, Any]]:
    """Arguments of each family's config."""
    llama, qwen2 = _text("llama", vocabulary), _text("qwen2", vocabulary)
    split = {
        "vision_config": _vit("idefics3_vision"),
        "text_config": llama,
        "scale_factor": 2,
        "image_token_id": _token("<image>"),
        "pad_token_id": 0,
    }
    clip = {
        "vision_config": _vit("clip_vision_model"),
        "text_config": llama,
        "image_token_id": _token("<image>"),
        "image_token_index": _token("<image>"),
        "vision_feature_select_strategy": "default",
    }
    wide = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
    return {
        "internvl": {
            "vision_config": {
                **_vit("internvl_vision"),
                "image_size": [SIDE, SIDE],
                "patch_size": [PATCH, PATCH],
                "layer_scale_init_value": 0.5,
            },
            "text_config": qwen2,
            "image_token_id": _token("<IMG_CONTEXT>"),
            "image_seq_length": 4,
            "tie_word_embeddings": False,
        },
        "qwen2_vl": {
            "text_config": _text("qwen2_vl_text", vocabulary, rope_parameters=ROPE),
            "vision_config": {**QWEN_EYES, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2},
            **QWEN_TOKENS,
        },
        "qwen2_5_vl": {
            "text_config": _text("qwen2_5_vl_text", vocabulary, rope_parameters=ROPE),
            "vision_config": {**QWEN_EYES, **wide, "window_size": 32, "fullatt_block_indexes": [1]},
            **QWEN_TOKENS,
        },
        "qwen3_vl": {
            "text_config": _text("qwen3_vl_text", vocabulary, head_dim=8, rope_parameters=ROPE),
            "vision_config": {**QWEN_EYES, **wide, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
            **QWEN_TOKENS,
        },
        "smolvlm": {**split, "vision_config": _vit("smolvlm_vision")},
        "idefics3": split,
        "llava": clip,
        "llava_next": {**clip, "image_grid_pinpoints": PINPOINTS},
        "llava_onevision": {
            "vision_config": _vit("siglip_vision_model"),
            "text_config": qwen2,
            "image_token_id": _token("<image>"),
            "video_token_id": _token("<video>"),
            "image_token_index": _token("<image>"),
            "video_token_index": _token("<video>"),
            "image_grid_pinpoints": PINPOINTS,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
        "gemma3": {
            "text_config": _text(
                "gemma3_text",
                vocabulary,
                head_dim=8,
                sliding_window=8,
                layer_types=["sliding_attention", "full_attention"],
                query_pre_attn_scalar=8,
            ),
            "vision_config": _vit("siglip_vision_model"),
            "mm_tokens_per_image": 4,
            "image_token_index": _token("<image_soft_token>"),
            "image_token_id": _token("<image_soft_token>"),
            "boi_token_index": _token("<start_of_image>"),
            "eoi_token_index": _token("<end_of_image>"),
        },
    }


SQUARE = {"height": SIDE, "width": SIDE}


def _qwen(kind: str, videos: Any) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> Any:
        pictures = families.qwen2_vl.Qwen2VLImageProcessor(
            patch_size=PATCH, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
        )
        return getattr(getattr(families, kind), PROCESSORS[kind])(pictures, tokenizer, videos())

    return make


def _internvl(tokenizer: Any) -> Any:
    pictures = families.got_ocr2.GotOcr2ImageProcessor(size=SQUARE, max_patches=4)
    videos = families.internvl.InternVLVideoProcessor(size=SQUARE)
    return families.internvl.InternVLProcessor(pictures, tokenizer, videos, image_seq_length=4)


def _smolvlm(tokenizer: Any) -> Any:
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    pictures = families.smolvlm.SmolVLMImageProcessor(**sizes)
    return families.smolvlm.SmolVLMProcessor(
        pictures, tokenizer, families.smolvlm.SmolVLMVideoProcessor(**sizes), image_seq_len=4
    )


def _idefics3(tokenizer: Any) -> Any:
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    pictures = families.idefics3.Idefics3ImageProcessor(**sizes)
    return families.idefics3.Idefics3Processor(pictures, tokenizer, image_seq_len=4)


def _llava(tokenizer: Any) -> Any:
    pictures = families.clip.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    return families.llava.LlavaProcessor(pictures, tokenizer, PATCH, "default", num_additional_image_tokens=1)


def _llava_next(tokenizer: Any) -> Any:
    pictures = families.llava_next.LlavaNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
    )
    return families.llava_next.LlavaNextProcessor(pictures, tokenizer, PATCH, "default", num_additional_image_tokens=1)


def _llava_onevision(tokenizer: Any) -> Any:
    pictures = families.llava_onevision.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS)
    videos = families.llava_onevision.LlavaOnevisionVideoProcessor(size=SQUARE)
    return families.llava_onevision.LlavaOnevisionProcessor(
        pictures, tokenizer, videos, num_image_tokens=16, vision_feature_select_strategy="full"
    )


def _gemma3(tokenizer: Any) -> Any:
    pictures = families.gemma3.Gemma3ImageProcessor(size=SQUARE)
    return families.gemma3.Gemma3Processor(pictures, tokenizer, image_seq_length=4)


PROCESSORS = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}
MAKERS: dict[str, Callable[[Any], Any]] = {
    "internvl": _internvl,
    "qwen2_vl": _qwen("qwen2_vl", lambda: families.qwen2_vl.Qwen2VLVideoProcessor(patch_size=PATCH)),
    "qwen2_5_vl": _qwen("qwen2_5_vl", lambda: families.qwen2_vl.Qwen2VLVideoProcessor(patch_size=PATCH)),
    "qwen3_vl": _qwen("qwen3_vl", lambda: families.qwen3_vl.Qwen3VLVideoProcessor(patch_size=PATCH)),
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "gemma3": _gemma3,
}


def tiny_native(family: str, vocabulary: int = HEAD, seed: int = 0) -> Any:
    """Random model of a real architecture, spread so widely that every token and pixel shows in the logits."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **_configs(vocabulary)[family])
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # Gemma's projector begins at zero, and would hide the pictures
                torch.nn.init.normal_(parameter, std=0.2)
            elif parameter.ndim > 1:
                parameter.mul_(4)
    return model


def save_native(folder: Path, family: str, vocabulary: int = HEAD, chat_template: str | None = None) -> Path:
    """Checkpoint folder with the family's processor."""
    tiny_native(family, vocabulary).save_pretrained(folder)
    processor = MAKERS[family](native_tokenizer(family))
    processor.chat_template = chat_template
    processor.save_pretrained(folder)
    return folder


def save_native_tokenizer_llama(folder: Path, family: str = "qwen2_vl", vocabulary: int = HEAD + 8) -> Path:
    """A plain language model with the tokenizer of the teachers, for students; its head has rows of its own to spare."""
    from tests.tiny.language_model import tiny_llama

    tiny_llama(vocabulary=vocabulary).save_pretrained(folder)
    native_tokenizer(family).save_pretrained(folder)
    return folder
