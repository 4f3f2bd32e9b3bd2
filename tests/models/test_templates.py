"""Every template writes what its family was trained on, and marks the answers and their end of turn, no more and no less."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taid_vlm.models.chat_template import TEMPLATES, template_names
from taid_vlm.models.control_text import ControlText, special_tokens
from taid_vlm.models.processor import ImageTokens, Processor, Rendered, template_text
from taid_vlm.models.vision_encoder import ImageInput
from tests.models.template_forms import ANSWER_FORMS, END_OF_TURN, LAST_ALONE, SAME_EACH_TURN
from tests.tiny.tokenizers import FAMILIES, WITH_A_SPACE, family_tokenizer

NAMES = sorted(FAMILIES)
IMAGE = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
CONTROL = sorted({token for _, tokens, _, _ in FAMILIES.values() for token in tokens})
LOOK_ALIKES = [*CONTROL, "<image>", "<think>", "</think>", "[INST]", "[/INST]", "<<SYS>>", "<|user|>", "<|assistant|>"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0"]
SCRIPTS = ["é", "e\u0301", "\u0301", "👩\u200d👩\u200d👧", "שלום", "\u200f", "日本", "\x00"]
PIECES = [
    *SPACES,
    *SCRIPTS,
    "the",
    "answer",
    "cat",
    *".<|>[",
    "USER: ",
    "{{ x }}",
    "{%",
    "im_end|>",
    "<|im_",
    "/INST]",
    "</",
]
# U+2581 is the space of SentencePiece, so it comes back as one.
LETTERS = st.characters(exclude_characters="\u2581", exclude_categories=["Cs"])
WORDS = st.one_of(st.text(LETTERS, max_size=20), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
FORGED = st.lists(st.sampled_from([*LOOK_ALIKES, *LOOK_ALIKES, *PIECES]), max_size=8).map("".join)
TURNS = st.lists(st.tuples(WORDS, st.one_of(WORDS, WORDS, st.just(""), FORGED)), min_size=1, max_size=3)
_made: dict[Any, Processor] = {}


def processor(name: str, trim_offsets: bool = False, image: bool = False) -> Processor:
    key = (name, trim_offsets, image)
    if key not in _made:
        tokenizer = family_tokenizer(name, trim_offsets=trim_offsets, extra=("<image>",) if image else ())
        _made[key] = Processor(tokenizer, template_text(name), ImageTokens("<image>", 3, IMAGE) if image else None)
    return _made[key]


def conversation(turns: list[tuple[str, str]], system: str | None = None) -> list[dict[str, Any]]:
    said = [("user", q, "assistant", a) for q, a in turns]
    messages = [{"role": r, "content": c} for q, w, a, s in said for r, c in ((q, w), (a, s))]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def answers(rendered: Rendered) -> list[list[int]]:
    """Ids of each run of the mask."""
    runs: list[list[int]] = []
    for before, token, said in zip([False, *rendered.answer_mask], rendered.ids, rendered.answer_mask, strict=False):
        if said and not before:
            runs.append([])
        if said:
            runs[-1].append(token)
    return runs


def expected_words(made: Processor, name: str, answer: str, last: bool) -> str:
    """What the tokens of an answer read, by what is public of the family."""
    text = ControlText(made.tokenizer, made.template).answer(answer)
    text = ANSWER_FORMS[name](text, last) + END_OF_TURN[name]
    if FAMILIES[name][0] == "nfc":
        text = made.tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    return text.removeprefix(" ") if FAMILIES[name][0] in WITH_A_SPACE else text


def check_mask(name: str, turns: list[tuple[str, str]], system: str | None, trim_offsets: bool = False) -> None:
    made = processor(name, trim_offsets)
    runs = answers(made.render(conversation(turns, system)))
    decoded = [made.tokenizer.decode(run, skip_special_tokens=False) for run in runs]
    last = len(turns) - 1
    expected = [expected_words(made, name, answer, i == last) for i, (_, answer) in enumerate(turns)]
    assert decoded == (expected[-1:] if name in LAST_ALONE else expected)
    assert [run[-1] for run in runs] == [made.end_of_turn_id] * len(decoded)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(turns=TURNS, system=st.none() | WORDS)
def test_the_mask_reads_the_answers_and_their_ends(name: str, turns: list[tuple[str, str]], system: str | None) -> None:
    check_mask(name, turns, system)


@pytest.mark.parametrize("name", [name for name in NAMES if FAMILIES[name][0] in ("bytes", "words", "nfc")])
@settings(max_examples=20, deadline=None)
@given(turns=TURNS)
def test_the_mask_does_not_depend_on_spaces_in_offsets(name: str, turns: list[tuple[str, str]]) -> None:
    check_mask(name, turns, None, trim_offsets=True)
    assert processor(name, True).render(conversation(turns)) == processor(name).render(conversation(turns))


@pytest.mark.parametrize("name", NAMES)
def test_a_very_long_answer_is_marked_whole(name: str) -> None:
    check_mask(name, [("why?", "the answer is\n\n a cat 👩‍👩‍👧 " * 3000 + "."), ("and?", "the end")], "be brief")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.tuples(FORGED, FORGED), min_size=1, max_size=2), system=st.none() | FORGED)
def test_special_tokens_are_those_of_the_template(name: str, turns: list[tuple[str, str]], system: str | None) -> None:
    made = processor(name, image=True)
    control = {made.tokenizer.convert_tokens_to_ids(token) for token in special_tokens(made.tokenizer)}
    picture = [{"type": "image"}, {"type": "text", "text": "<|im"}, {"type": "text", "text": "_end|>"}]
    typed = conversation(turns, system)
    plain = conversation([("x", "x")] * len(turns), None if system is None else "x")
    found = []
    for messages in (typed, plain):
        first = next(m for m in messages if m["role"] == "user")
        first["content"] = [*picture, {"type": "text", "text": first["content"]}]
        rendered = made.render(messages)
        found.append(([token for token in rendered.ids if token in control], len(answers(rendered))))
        masked = {token for token, said in zip(rendered.ids, rendered.answer_mask, strict=True) if said}
        assert made.image_token_id not in masked
    assert found[0] == found[1]
    assert found[0][0].count(made.image_token_id or 0) == 3


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(turns=TURNS)
@example(turns=[(" ", "0")])  # the words behind a line end decide how the spaces before it are tokenised
@example(turns=[("a", "\n\n the"), ("\n", "  the")])
def test_a_prompt_is_the_beginning_of_the_whole(name: str, turns: list[tuple[str, str]]) -> None:
    made = processor(name)
    if name == "qwen3" and expected_words(made, name, turns[-1][1], True).startswith("<think>"):
        return  # asked not to think, it would not say this
    whole = made.render(conversation(turns))
    prompt = made.render(conversation(turns)[:-1], add_generation_prompt=True)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.answer_mask[len(prompt.ids)]
    if name in SAME_EACH_TURN:
        first = made.render(conversation(turns)[:1], add_generation_prompt=True)
        assert whole.ids[: len(first.ids)] == first.ids
        assert whole.answer_mask.index(True) == len(first.ids)


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_mask_are_those_of_the_tokenizer_itself(name: str) -> None:
    made = processor(name)
    messages = conversation([("what?", "the cat"), ("sure?", "a answer.")], "be brief")
    stock = made.tokenizer.apply_chat_template(
        messages, chat_template=made.template, return_dict=True, return_assistant_tokens_mask=True
    )
    assert made.render(messages) == Rendered(stock["input_ids"], [bool(flag) for flag in stock["assistant_masks"]])


THOUGHTS = [
    ("Hello", "<think>\nA greeting.\n</think>\n\nHi there"),
    ("Who?", "<think>\nThey ask who I am.\n\nA model, then.\n</think>\n\nA model"),
]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking"])
def test_the_thought_of_an_answer_is_learnt_as_the_family_writes_it(name: str) -> None:
    made = processor(name)
    rendered = made.render(conversation(THOUGHTS))
    assert made.tokenizer.decode(rendered.ids) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
        f"<|im_start|>assistant\n{THOUGHTS[1][1]}<|im_end|>\n"
    )
    decoded = [made.tokenizer.decode(run) for run in answers(rendered)]
    assert decoded[-1] == THOUGHTS[1][1] + "<|im_end|>"
    assert decoded[:-1] == ([] if name in LAST_ALONE else ["Hi there<|im_end|>"])
    # The tags are the model's own tokens.
    assert made.tokenizer.convert_tokens_to_ids("<think>") == answers(rendered)[-1][0]


def test_a_model_that_is_asked_to_think_says_its_empty_thought() -> None:
    made = processor("qwen3_thinking")
    whole = made.render(conversation([("Who?", "A model")]))
    prompt = made.render(conversation([("Who?", "")])[:1], add_generation_prompt=True)
    assert made.tokenizer.decode(prompt.ids).endswith("<|im_start|>assistant\n")
    assert made.tokenizer.decode(whole.ids[len(prompt.ids) :]) == "<think>\n\n</think>\n\nA model<|im_end|>\n"
    assert [made.tokenizer.decode(run) for run in answers(whole)] == ["<think>\n\n</think>\n\nA model<|im_end|>"]


def test_other_templates_keep_thoughts_as_words_and_smollm3_behind_its_own() -> None:
    made = processor("chatml")
    (run,) = answers(made.render(conversation([THOUGHTS[0]])))
    assert made.tokenizer.decode(run) == THOUGHTS[0][1] + "<|im_end|>"
    made = processor("smollm3")
    (run,) = answers(made.render(conversation([THOUGHTS[0]])))
    assert made.tokenizer.decode(run) == THOUGHTS[0][1] + "<|im_end|>"


def test_every_template_is_tested() -> None:
    written_for_teachers = {
        "gemma3_vl",
        "llava_mistral",
        "llava_onevision",
        "llava_vicuna",
        "qwen2_vl",
        "qwen3_vl",
        "smolvlm",
    }
    assert set(template_names()) - written_for_teachers - set(FAMILIES) == {"zephyr"}  # the text of tinyllama
    assert template_text("tinyllama") == (TEMPLATES / "zephyr.jinja").read_text(encoding="utf-8")
