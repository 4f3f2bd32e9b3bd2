"""The text of each family, against its public form; and templates that do not fit their tokenizer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.export.processors import stock_template
from taid_vlm.models.chat_template import end_of_turn, template_names, template_text
from taid_vlm.models.generate import greedy_ids
from taid_vlm.models.processor import ImageTokens, Processor
from taid_vlm.models.rendering import render_text
from taid_vlm.models.vision_encoder import ImageInput
from tests.models.template_forms import ALONE, ASKED, TEXTS
from tests.tiny.language_model import tiny_tokenizer
from tests.tiny.tokenizers import FAMILIES, family_tokenizer

MESSAGES = [{"role": role, "content": words} for role, words in ASKED]
IMAGE = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
BLOCK = {"gemma": "\n\n<image><image>\n\n"}
UNBOXED = "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}BOX{%- else -%}{{- m['content'] -}}{%- endif -%}{%- endfor -%}"


def text_of(name: str, messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
    blocks = ["<image><image>"] * 2
    text, _ = render_text(
        family_tokenizer(name),
        template_text(name),
        messages,
        image_blocks=blocks,
        add_generation_prompt=add_generation_prompt,
    )
    return text


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_conversation_reads_as_the_family_was_trained(name: str) -> None:
    assert text_of(name, MESSAGES) == TEXTS[name]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_conversation_without_a_system_prompt_opens_as_the_family_does(name: str) -> None:
    alone = text_of(name, MESSAGES[1:])
    assert alone[: alone.index("Hello")].startswith(ALONE[name])
    rest = alone.removeprefix(ALONE[name])
    assert TEXTS[name].endswith(rest.removeprefix("[INST] ").removeprefix("<start_of_turn>user\n"))
    assert "Be brief." not in alone


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_prompt_opens_the_answer(name: str) -> None:
    prompt = text_of(name, MESSAGES[:-1], add_generation_prompt=True)
    assert TEXTS[name].startswith(prompt)
    thinks = "<think>\n\n</think>\n\n" if name == "qwen3_thinking" else ""  # asked to, it thinks itself
    assert TEXTS[name][len(prompt) :].removeprefix(thinks).lstrip().startswith("A model")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_picture_stands_before_its_words(name: str) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "see"}, {"type": "image"}, {"type": "text", "text": "and"}]
    text = text_of(name, [{"role": "user", "content": parts}, MESSAGES[2]])
    block = BLOCK.get(name, "<image><image>\n")
    assert f"{block}see{block}and" in text


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_an_exported_template_writes_one_token_for_each_picture(name: str) -> None:
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "see"}, {"type": "image"}]}
    tokenizer = family_tokenizer(name)
    stock = tokenizer.apply_chat_template(
        [question, MESSAGES[2]], chat_template=stock_template(template_text(name), "<image>"), tokenize=False
    )
    assert stock == text_of(name, [question, MESSAGES[2]]).replace("<image><image>", "<image>")


@pytest.mark.parametrize("name", [name for name, (_, _, bos, _) in FAMILIES.items() if bos])
def test_the_opening_token_is_never_doubled(name: str) -> None:
    tokenizer = family_tokenizer(name)
    ids = Processor(tokenizer, template_text(name), None).render(MESSAGES).ids
    opens = TEXTS[name].startswith(tokenizer.bos_token)
    assert (ids[0] == tokenizer.bos_token_id) == opens
    assert not opens or ids[1] != tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == TEXTS[name].count(tokenizer.bos_token)


@pytest.mark.parametrize(("template", "family"), [("chatml", "gemma"), ("gemma", "qwen3"), ("llama3", "tinyllama")])
def test_a_template_of_another_family_is_refused(template: str, family: str) -> None:
    with pytest.raises(UserError, match=r"ends a turn with '<.*>', which is no token of this tokenizer.*chat_template"):
        Processor(family_tokenizer(family), template_text(template), None)


@pytest.mark.parametrize(
    "box",
    [
        "{%- generation -%}{{- m['content'] + '<|im_end|>\\n' -}}{%- endgeneration -%}",
        "{%- generation -%}{{- 'assistant\\n' + m['content'] + '<|im_end|>' -}}{%- endgeneration -%}",
        "{%- generation -%}{{- m['content'] -}}{%- endgeneration -%}{{- '<|im_end|>' -}}",
        "{{- m['content'] -}}{%- generation -%}{{- '<|im_end|>' -}}{%- endgeneration -%}",
    ],
    ids=["and a newline", "and the role", "not the end", "not the answer"],
)
def test_a_template_that_marks_anything_else_is_refused(box: str) -> None:
    with pytest.raises(UserError, match="the chat template"):
        Processor(tiny_tokenizer(), UNBOXED.replace("BOX", box), None)


def test_a_template_that_writes_the_end_of_a_tokenizer_without_one_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="without eos_token"):
        Processor(tokenizer, template_text("plain"), None)


def test_a_template_that_refuses_the_conversation_says_so() -> None:
    with pytest.raises(UserError, match="cannot write a conversation: roles must alternate"):
        end_of_turn(
            tiny_tokenizer(), "{{ raise_exception('roles must alternate') }}{% generation %}{% endgeneration %}"
        )


def test_the_end_of_turn_is_the_template_s_not_the_tokenizer_s() -> None:
    tokenizer = family_tokenizer("gemma")
    made = Processor(tokenizer, template_text("gemma"), None)
    assert tokenizer.convert_ids_to_tokens(made.end_of_turn_id) == "<end_of_turn>"
    assert made.end_of_turn_id != tokenizer.eos_token_id


def test_a_token_that_swallows_the_space_of_an_answer_is_not_part_of_it() -> None:
    made = Processor(family_tokenizer("phi3"), template_text("phi3").replace(".lstrip()", ""), None)
    out = made.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": "  \n the answer"}])
    said = [token for token, flag in zip(out.ids, out.answer_mask, strict=True) if flag]
    assert made.tokenizer.decode(said) == "the answer<|end|>"


def test_a_space_that_the_template_asks_with_is_not_part_of_the_answer() -> None:
    asks = "{%- generation -%}{{- m['content'] + eos_token -}}{%- endgeneration -%}"
    template = (
        UNBOXED.replace("BOX", "{{- 'A: ' -}}" + asks) + "{%- if add_generation_prompt -%}{{- 'A: ' -}}{%- endif -%}"
    )
    made = Processor(family_tokenizer("plain"), template, None)
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "the cat"}]
    out, prompt = made.render(messages), made.render(messages[:1], add_generation_prompt=True)
    assert out.ids[: len(prompt.ids)] == prompt.ids
    assert made.tokenizer.decode(out.ids[len(prompt.ids) :]) == "the cat<|endoftext|>"
    assert out.answer_mask == [False] * len(prompt.ids) + [True] * (len(out.ids) - len(prompt.ids))


def test_answers_that_are_generated_end_with_the_turn() -> None:
    made = Processor(family_tokenizer("gemma"), template_text("gemma"), None)
    asked: dict[str, Any] = {}
    student: Any = SimpleNamespace(language_model=SimpleNamespace(generate=lambda **options: asked.update(options)))
    greedy_ids(student, made, torch.zeros(1, 1, 4), torch.ones(1, 1), 3)
    assert asked["eos_token_id"] == asked["pad_token_id"] == made.end_of_turn_id


def test_unknown_roles_and_pictures_outside_questions_are_refused() -> None:
    made = Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<empty_output>", 2, IMAGE))
    with pytest.raises(UserError, match=r"role 'user\\n', expected one of system, user, assistant"):
        made.render([{"role": "user\n", "content": "x"}])
    for role in ("system", "assistant"):
        with pytest.raises(UserError, match=f"role {role} has a picture"):
            made.render([{"role": role, "content": [{"type": "image"}]}])


def test_words_in_parts_are_one_text() -> None:
    made = Processor(tiny_tokenizer(), template_text("chatml"), None)
    parts = [{"type": "text", "text": "<|im"}, {"type": "text", "text": "_end|>"}]
    for role in ("user", "system", "assistant"):
        whole = made.render([{"role": role, "content": "<|im_end|>"}])
        assert made.render([{"role": role, "content": parts}]) == whole


def test_texts_for_pictures_must_be_as_many() -> None:
    made = Processor(tiny_tokenizer(), template_text("chatml"), None)
    look = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
    assert "<pic>" in made.tokenizer.decode(made.render_with(look, ["<pic>"]).ids)
    with pytest.raises(UserError, match="1 pictures came with 0 texts"):
        made.render_with(look, [])


def test_the_page_on_templates_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "templates.md").read_text()
    assert [name for name in template_names() if f"`{name}`" not in page] == []
