"""Small tokenizers of each family's make, with its real special tokens.

Merges are learnt from a few lines, so that words, line ends and spaces share tokens as they do in the real ones.
"""

import json
from functools import lru_cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINES = [
    "the answer is a cat\n\n  it sits on the mat.\n \n and   sleeps\n\n\n",
    "\n\nthe the an answer\n a cat  \t\tis user assistant\nsystem ASSISTANT: USER: \n the\n\n  \n",
] * 4
# Words of Qwen, Llama 3 and their kin: a line end takes the spaces before it, and no letter.
WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# template: how the text is cut, special tokens in order, BOS, EOS.
FAMILIES: dict[str, tuple[str, list[str], str | None, str]] = {
    "chatml": ("bytes", CHATML, None, "<|im_end|>"),
    "smollm2": ("bytes", CHATML, "<|im_start|>", "<|im_end|>"),
    "qwen2": ("nfc", [*CHATML, "<|vision_start|>", "<|image_pad|>"], None, "<|im_end|>"),
    "qwen2_5": ("nfc", [*CHATML, "<|vision_start|>", "<|image_pad|>"], None, "<|im_end|>"),
    "qwen3": ("nfc", [*CHATML, "<|image_pad|>"], None, "<|im_end|>"),
    "qwen3_thinking": ("nfc", [*CHATML, "<|image_pad|>"], None, "<|im_end|>"),
    "smollm3": ("words", ["<|begin_of_text|>", *CHATML], None, "<|im_end|>"),
    "llama3": (
        "words",
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "llama3_1": (
        "words",
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "stablelm_zephyr": ("bytes", ["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>"),
    "olmo2": ("words", ["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>"),
    "granite": (
        "bytes",
        ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"],
        "<|end_of_text|>",
        "<|end_of_text|>",
    ),
    "plain": ("bytes", ["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>"),
    "gemma": ("spaces", ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
    "internlm2": ("spaces", ["<s>", "</s>", "<|im_start|>", "<|im_end|>"], "<s>", "</s>"),
    "internvl2_5": ("spaces", ["<s>", "</s>", "<|im_start|>", "<|im_end|>"], "<s>", "</s>"),
    "llama2": ("prefix", ["<s>", "</s>"], "<s>", "</s>"),
    "tinyllama": ("prefix_everywhere", ["<s>", "</s>"], "<s>", "</s>"),
    "vicuna": ("prefix_everywhere", ["<s>", "</s>"], "<s>", "</s>"),
    "mistral": ("prefix", ["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>"),
    "phi3": (
        "prefix",
        ["<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"],
        "<s>",
        "<|endoftext|>",
    ),
}
FAMILIES["internvl2_phi3"] = FAMILIES["phi3"]
# The white space that follows.
SWALLOWS = dict.fromkeys(["phi3", "internvl2_phi3"], ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>"))
# Their tokenizers put BOS before every text unless told not to.
OPENS = ("llama2", "tinyllama", "vicuna", "mistral", "gemma", "llama3", "llama3_1", "internlm2", "internvl2_5")
WITH_A_SPACE = ("prefix", "prefix_everywhere")  # put before a text


def family_tokenizer(template: str, *, trim_offsets: bool = False, extra: tuple[str, ...] = ()) -> Any:
    """A new tokenizer for a template.

    Args:
        trim_offsets: leave spaces out of the offsets of tokens, as the post-processor of some families does.
        extra: more special tokens.
    """
    kind, specials, bos, eos = FAMILIES[template]
    tokenizer = Tokenizer.from_str(_without_specials(kind))
    swallows = SWALLOWS.get(template, ())
    tokenizer.add_special_tokens(
        [AddedToken(text, rstrip=text in swallows, normalized=False) for text in [*specials, *extra]]
    )
    post: list[Any] = [processors.ByteLevel(trim_offsets=True)] if trim_offsets else []
    if template in OPENS:
        post.append(processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]))
    if post:
        tokenizer.post_processor = processors.Sequence(post)
    if template in ("qwen3", "qwen3_thinking"):
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "</think>", "<tool_call>")])
    if template == "plain":  # GPT-NeoX has such tokens, and they are no special ones
        tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (4, 3, 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos, clean_up_tokenization_spaces=False
    )


@lru_cache
def _without_specials(kind: str) -> str:
    if kind in ("bytes", "nfc", "words"):
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if kind != "bytes":
            whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            split = pre_tokenizers.Sequence([pre_tokenizers.Split(WORDS, "isolated"), whole])
        tokenizer.pre_tokenizer = split
        tokenizer.decoder = decoders.ByteLevel()
        if kind == "nfc":
            tokenizer.normalizer = normalizers.NFC()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
        return tokenizer.to_str()
    return _sentencepiece(kind).to_str()


def _sentencepiece(kind: str) -> Tokenizer:
    """As converted from SentencePiece: a space is U+2581, and a character that is in no token becomes its bytes."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trained.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=120))
    merges = [pair for pair in _merges(trained) if not set("".join(pair)) & set("\n\t")]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    tokens += [token for pair in merges for token in (*pair, "".join(pair))]
    if kind == "spaces":  # Gemma and InternLM2 have tokens of several line ends
        tokens += ["\n", "\n\n"]
        merges += [("\n", "\n")]
    tokens += ["\u2581\u2581"]
    merges += [("\u2581", "\u2581")]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps: list[Any] = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "prefix":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    elif kind == "prefix_everywhere":  # as converted before 2024: a space also behind each special token
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    if kind in WITH_A_SPACE:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" "))  # type: ignore[misc]
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
