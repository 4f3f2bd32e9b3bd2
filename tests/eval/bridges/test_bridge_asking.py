"""What bridges share: messages become requests, arguments of generation are read, texts are asked in batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval.bridges.asking import answers, likelihoods
from taid_vlm_eval.bridges.messages import as_request, picture_key
from taid_vlm_eval.bridges.texts import Texts
from taid_vlm_eval.bridges.wanted import Wanted, wanted
from taid_vlm_eval.models import Request, open_model
from taid_vlm_eval.models.said import before_stops
from tests.eval.fakes import FakeModel
from tests.tiny.language_model import tiny_llama
from tests.tiny.native import save_native
from tests.tiny.tokenizers import family_tokenizer

RED, BLUE = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def image(content: Any) -> dict[str, Any]:
    return {"type": "image", "url": content}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts)}


def test_pictures_before_a_question_are_the_usual_layout() -> None:
    made = as_request([user(image(RED), image(BLUE), text("which?"))], ("x",))
    assert (made.prompt, made.layout, made.stops, made.earlier) == ("which?", (), ("x",), ())
    assert made.keys == (picture_key(RED), picture_key(BLUE))
    assert made.keys[0] != made.keys[1]


def test_pictures_between_words_keep_their_places() -> None:
    made = as_request([user(text("is "), image(RED), text(" like "), image(BLUE), text("?"))])
    assert made.layout == ("is ", 0, " like ", 1, "?")
    assert made.prompt == "is  like ?"


def test_turns_the_system_and_the_beginning_of_an_answer() -> None:
    turns = [{"role": "system", "content": "Be short."}, user(image(RED), text("colour?")), said(text("red"))]
    made = as_request([*turns, user(text("sure?")), said(text("I am"))])
    assert made.earlier == (("Be short.\n\ncolour?", "red"),)
    assert (made.prompt, made.answer_start, len(made.images)) == ("sure?", "I am", 1)


def test_pictures_of_any_mode_become_rgb(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    palette, cmyk = RED.convert("P"), RED.convert("CMYK")
    BLUE.save(tmp_path / "blue.png")
    made = as_request([user(*map(image, (clear, palette, cmyk, str(tmp_path / "blue.png"))), text("?"))])
    assert [one.mode for one in made.images] == ["RGB"] * 4
    assert [one.getpixel((0, 0)) for one in made.images] == [(255, 255, 255), (255, 0, 0), (255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([user({"type": "video", "url": "x.mp4"}, text("?"))], "the task shows a video; models here read pictures"),
        ([user(image(RED), text("?")), said(text("a")), user(image(BLUE), text("?"))], "pictures in several turns"),
        ([user(text("a")), user(text("b"))], "a conversation of user, user ends in no question"),
        ([user(image("nowhere.png"), text("?"))], "image nowhere.png is missing"),
        ([user(text("a"), image(RED)), said(text("b")), user(text("c"))], "expected them to open it"),
    ],
)
def test_what_a_request_cannot_hold_is_told(messages: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_request(messages)


def test_arguments_of_generation() -> None:
    assert wanted({}, 9) == Wanted(9)
    assert wanted({"max_gen_toks": 3, "max_new_tokens": 5, "until": "a"}, 9) == Wanted(3, ("a",))
    assert wanted({"max_new_tokens": 5, "until": ["a", "", "b"], "temperature": 0.0}, 9) == Wanted(5, ("a", "b"))
    # A temperature beside "do not sample", as many tasks have it, is greedy.
    assert wanted({"do_sample": False, "temperature": 0.7, "num_beams": 1, "until": None}, 9) == Wanted(9)
    assert wanted({"do_sample": True, "temperature": 0}, 9) == Wanted(9)
    for sampled in ({"do_sample": True}, {"temperature": 0.2}, {"do_sample": True, "temperature": 1}):
        with pytest.raises(UserError, match="samples its answers"):
            wanted(sampled, 9)
    with pytest.raises(UserError, match="4 beams"):
        wanted({"num_beams": 4}, 9)


def test_the_first_stop_ends_a_text() -> None:
    assert before_stops("one two three", ("three", " t")) == "one"
    assert before_stops("one", ("x",)) == "one"
    assert before_stops("\n\none", ("\n\n",)) == ""


def test_batches_are_halved_where_memory_runs_out_and_keep_their_order() -> None:
    model = FakeModel(lambda request: request.prompt.upper(), memory=3)
    found = answers(model, 11, lambda number: Request(f"q{number}"), Wanted(4), 8, "test")
    assert found == [f"Q{number}" for number in range(11)]
    assert max(map(len, model.batches)) <= 3
    assert model.tried[0] == 8
    with pytest.raises(UserError, match="out of memory with the single item"):
        answers(FakeModel(memory=0), 2, lambda number: Request("q"), Wanted(4), 2, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("texts")
    tokenizer = family_tokenizer("smollm2")
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_likelihoods_are_those_of_single_forward_passes(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    pairs = [("the cat", " sat"), ("the cat ", "on"), ("", "red"), ("the cat", " is here"), ("a", "")]
    found = Texts(model, 2).likelihoods(pairs)
    tokenizer, network = model.tokenizer, model._model
    for (context, continuation), (value, greedy) in zip(pairs, found, strict=True):
        kept = context.rstrip()
        before = tokenizer.encode(kept) or [tokenizer.bos_token_id]
        ids = [*before, *tokenizer.encode(context + continuation)[len(tokenizer.encode(kept)) :]]
        with torch.no_grad():
            log_q = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = range(len(before), len(ids))
        assert value == pytest.approx(sum(log_q[place - 1, ids[place]].item() for place in places), abs=1e-4)
        assert greedy == all(log_q[place - 1].argmax() == ids[place] for place in places)


def test_windows_predict_each_token_once_with_all_the_context_that_fits(folder: Path) -> None:
    texts = Texts(open_model(folder, device="cpu"), 2)
    texts._model = type("Short", (), {"longest": 4})
    opening = texts._opening
    ids = list(range(100, 110))
    windows = texts._windows(ids)
    assert windows[0] == ([opening], ids[:4])
    assert [one for _, predicted in windows for one in predicted] == ids
    assert windows[-1] == (ids[5:8], ids[8:])  # three tokens before, and one of the two that are predicted is read too
    assert all(len(before) + len(predicted) - 1 <= 4 for before, predicted in windows)
    assert texts._windows([]) == []


def test_out_of_memory_halves_likelihoods_too(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    tried: list[int] = []

    class Small:
        longest, tokenizer, chat_template, name = model.longest, model.tokenizer, None, "small"

        def answer_rows(self, requests: Any, continuations: Any) -> Any:
            tried.append(len(requests))
            if len(requests) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return model.answer_rows(requests, continuations)

    requests = [Request("", plain=True, ids=(5, 6, 7 + place)) for place in range(4)]
    rows = [[8, 9]] * 4
    found, truth = (likelihoods(one, requests, rows, 4, "test") for one in (Small(), model))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in truth])
    assert tried == [4, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("reuse", [True, False])
def test_stops_end_answers_early_and_leave_the_others_alone(folder: Path, reuse: bool) -> None:
    model: Any = open_model(folder, device="cpu", reuse_images=reuse)
    ids = [tuple(model.tokenizer.encode(text)) for text in ("the cat sat", "one two", "a longer beginning of words")]
    free = model.generate([Request("", plain=True, ids=one) for one in ids], 24)
    stop = free[0][len(free[0]) // 3 :][:2]
    cut = model.generate(
        [Request("", plain=True, ids=one, stops=(stop,) if n != 1 else ()) for n, one in enumerate(ids)], 24
    )
    assert cut == [before_stops(free[0], [stop]), free[1], before_stops(free[2], [stop])]
    steps: list[int] = []
    model._model.register_forward_hook(lambda *_: steps.append(1))
    model.generate([Request("", plain=True, ids=ids[0], stops=(stop,))], 24)
    early = len(steps)
    model.generate([Request("", plain=True, ids=ids[0])], 24)
    assert early < len(steps) - early


@pytest.mark.parametrize("reuse", [True, False])
def test_stops_count_in_answers_alone_where_prompts_begin_alike(folder: Path, reuse: bool) -> None:
    model: Any = open_model(folder, device="cpu", reuse_images=reuse)
    shared = tuple(model.tokenizer.encode("the cat sat on a mat beside the red square and the blue circle"))
    ids = [shared + tuple(model.tokenizer.encode(text)) for text in (" one two", " three", " is")]
    free = model.generate([Request("", plain=True, ids=one) for one in ids], 16)
    stop = free[0][len(free[0]) // 3 :][:2]
    for stops in (("cat", "red", stop), ("square",)):
        rows = [Request("", plain=True, ids=one, stops=stops) for one in ids]
        assert model.generate(rows, 16) == [before_stops(text, stops) for text in free]
    assert before_stops(free[0], [stop]) != free[0]


def test_a_model_that_sees_goes_on_from_plain_texts_beside_questions(tmp_path: Path) -> None:
    template = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    model: Any = open_model(save_native(tmp_path, "qwen2_vl", chat_template=template), device="cpu")
    plain, sees = Request("the cat", plain=True), Request("colour?", [RED])
    together = model.generate([sees, plain, sees], 5)
    assert together == [model.generate([one], 5)[0] for one in (sees, plain, sees)]
    with torch.no_grad():
        ids = torch.tensor([model.tokenizer.encode("the cat")])
        new = model._model.generate(input_ids=ids, max_new_tokens=5)[0, ids.shape[1] :]
    assert together[1] == model.tokenizer.decode(new, skip_special_tokens=True)


def test_chat_templates_that_want_parts_get_them(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    texts = Texts(model, 2)
    with pytest.raises(UserError, match="has no chat template"):
        texts.chat([{"role": "user", "content": "hello"}], True)
    turn = [{"role": "user", "content": "hello there"}]
    model.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    assert texts.chat(turn, True) == "[hello there]>"
    model.tokenizer.chat_template = (
        "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}"
    )
    assert texts.chat(turn, True) == "<hello there>"
