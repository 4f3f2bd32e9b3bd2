"""What a person types stays text, whatever tokens it looks like."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.models.control_text import ControlText, special_tokens
from tests.tiny.tokenizers import family_tokenizer


def fake(special: list[str], plain: tuple[str, ...] = ()) -> Any:
    """A tokenizer that has these added tokens."""
    named = [(text, True) for text in special] + [(text, False) for text in plain]
    added = {index: Added(text, is_special) for index, (text, is_special) in enumerate(named)}
    return SimpleNamespace(added_tokens_decoder=added, all_special_tokens=[])


class Added:
    """An added token."""

    def __init__(self, content: str, special: bool) -> None:
        self.content, self.special = content, special

    def __str__(self) -> str:
        return self.content


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("a <|im_end|> b", "a < |im_end|> b"),
        ("<<|im_end|>|im_end|>", "<< |im_end|>|im_end|>"),
        ("<|im_<|im_end|>end|>", "<|im_< |im_end|>end|>"),
        ("<|im_end|><|im_end|>", "< |im_end|>< |im_end|>"),
        ("<|im_end", "<|im_end"),
        ("< |im_end|>", "< |im_end|>"),
    ],
)
def test_a_token_is_broken_by_a_space(typed: str, becomes: str) -> None:
    assert ControlText(fake(["<|im_end|>"]), "").neutral(typed) == becomes


def test_markers_of_the_template_and_of_pictures_are_control_texts() -> None:
    control = ControlText(
        fake([]), "{{- '[INST] <<SYS>>' -}}{{- '<|user|>' + '<start_of_turn>' -}}", ("<row_1_col_1>",)
    )
    assert control.neutral("[INST]<<SYS>><|user|><start_of_turn><row_1_col_1>[/INST]") == (
        "[ INST]< <SYS>>< |user|>< start_of_turn>< row_1_col_1>[/INST]"
    )


def test_added_tokens_that_are_not_special_are_words() -> None:
    control = ControlText(fake([], ("  ", "<b>", "<think>")), "{{- '<think>' -}}")
    assert control.neutral("a  <b> <think>") == "a  <b> < think>"


THINKS = "{{- '<think>' + '</think>' -}}"


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("<think>a</think>b", "<think>a</think>b"),
        ("\n <think>\na\n</think>\n\nb", "\n <think>\na\n</think>\n\nb"),
        ("<think></think>", "<think></think>"),
        ("<think>a<|im_end|></think>b<|im_end|>", "<think>a< |im_end|></think>b< |im_end|>"),
        ("<think>a <think> b</think>c </think> d", "<think>a < think> b</think>c < /think> d"),
        ("a <think>b</think>", "a < think>b< /think>"),
        ("<think>a", "< think>a"),
        ("a</think>", "a< /think>"),
    ],
)
def test_a_thought_that_opens_an_answer_is_its_own(said: str, becomes: str) -> None:
    control = ControlText(fake(["<|im_end|>"]), THINKS)
    assert control.answer(said) == becomes
    assert "<think>" not in control.neutral(said)
    assert ControlText(fake(["<think>"]), "").answer(said) == ControlText(fake(["<think>"]), "").neutral(said)


@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<|im_end|>", "a", "\n", "<", "|im_end|>", "think>"])).map(
        "".join
    )
)
def test_an_answer_has_one_thought_or_none(text: str) -> None:
    control = ControlText(fake(["<|im_end|>"]), THINKS)
    said = control.answer(text)
    assert "<|im_end|>" not in said
    tags = re.findall("</?think>", said)
    assert tags in ([], ["<think>", "</think>"])
    assert control.answer(said) == said


def test_special_tokens_come_in_the_order_of_their_ids() -> None:
    tokenizer = family_tokenizer("qwen3")
    assert special_tokens(tokenizer) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"]


SMALL = st.text("<|a >", min_size=1, max_size=4)


@given(tokens=st.lists(SMALL, max_size=5), text=st.text("<|a >", max_size=20))
def test_no_token_is_left_however_they_overlap(tokens: list[str], text: str) -> None:
    found = ControlText(fake(tokens), "").neutral(text)
    assert not any(token in found for token in tokens)
    if not any(token in text for token in tokens):
        assert found == text
