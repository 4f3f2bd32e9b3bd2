"""Log-likelihoods of continuations: those of a plain full forward, whatever the batch, in a template or as text that goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from taid_vlm.models import build_student, load_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm_eval.models import Request, open_model
from taid_vlm_eval.models.likelihood import AnswerRows, continuation_ids, plain_ids
from taid_vlm_eval.models.protocol import Scoring
from tests.eval.fakes import with_chatml
from tests.eval.test_eval_stock_families import FAMILIES, template
from tests.tiny.language_model import save_chatty_llama, save_tiny_language_model
from tests.tiny.native import save_native
from tests.tiny.tokenizers import family_tokenizer

CHOICES = [["A", "B", " A"], ["a longer one", "b", "ab"], ["C"]]
PROMPTS = ["hi", "which of the two is it, in the end?", "?"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chatty_llama(tmp_path_factory.mktemp("likelihood") / "plain")


@pytest.fixture(scope="module")
def chat(plain: Path) -> Path:
    return with_chatml(plain, plain.parent / "chat")


@torch.no_grad()
def by_hand(model: Any, context: list[int], answer: list[int], **more: Any) -> float:
    """The plain twin: one sequence, all logits, no padding."""
    logits_LV = model(input_ids=torch.tensor([[*context, *answer]]), **more).logits[0].double()
    log_q = logits_LV.log_softmax(dim=-1)
    return sum(log_q[len(context) - 1 + place, token].item() for place, token in enumerate(answer))


def values(model: Any, requests: list[Request], texts: list[list[str]]) -> list[list[float]]:
    return [[one.log_probability for one in several] for several in model.log_likelihoods(requests, texts)]


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_language_model(plain: Path, chat: Path, is_plain: bool) -> None:
    folder = plain if is_plain else chat
    model, twin = open_model(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, Scoring) and isinstance(model, AnswerRows)  # noqa: PT018
    requests = [Request(prompt, plain=is_plain) for prompt in PROMPTS]
    found = values(model, requests, CHOICES)
    frame = "{}" if is_plain else "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    for request, texts, several in zip(requests, CHOICES, found, strict=True):
        context = tokenizer(frame.format(request.prompt))["input_ids"]
        wanted = [by_hand(twin, context, tokenizer(text)["input_ids"]) for text in texts]
        assert several == pytest.approx(wanted, abs=1e-4)
        assert [one.tokens for one in model.log_likelihoods([request], [texts])[0]] == [len(text) for text in texts]
    alone = [values(model, [request], [texts])[0] for request, texts in zip(requests, CHOICES, strict=True)]
    assert [one for several in alone for one in several] == pytest.approx([one for s in found for one in s], abs=1e-4)


def test_letters_take_one_forward_pass_for_each_request_and_the_head_the_needed_rows(chat: Path) -> None:
    model = open_model(chat, device="cpu")
    seen: list[tuple[int, ...]] = []
    inner: Any = model
    inner._model.lm_head.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape)))
    model.log_likelihoods([Request(prompt) for prompt in PROMPTS], [["A", "B", "C", "D"]] * 3)  # type: ignore[attr-defined]
    assert seen == [(1, 3, 264)]


def test_the_probabilities_of_all_tokens_add_up_to_one(chat: Path) -> None:
    model: Any = open_model(chat, device="cpu")
    every = model.answer_rows([Request("hi")], [[5, 6]])[0]
    assert every.shape == (2, 264)
    bytes_alone = [chr(code) for code in range(33, 127)]
    total = sum(torch.tensor(values(model, [Request("hi")], [bytes_alone])[0]).exp()).item()
    assert 0.0 < total < 1.0 + 1e-4


def test_a_continuation_without_tokens_has_probability_one(chat: Path) -> None:
    model: Any = open_model(chat, device="cpu")
    (found,) = model.log_likelihoods([Request("hi")], [["", "A"]])
    assert (found[0].log_probability, found[0].tokens, found[1].tokens) == (0.0, 0, 1)


@pytest.mark.parametrize("family", ["smollm2", "llama3", "llama2", "gemma"])
def test_white_space_at_the_end_of_a_plain_prompt_belongs_to_what_follows(family: str) -> None:
    tokenizer = family_tokenizer(family)
    with_space, without = Request("the answer is ", plain=True), Request("the answer is", plain=True)
    assert continuation_ids(tokenizer, with_space, "a cat") == continuation_ids(tokenizer, without, " a cat")
    assert plain_ids(tokenizer, with_space) == plain_ids(tokenizer, without)
    ids = [*plain_ids(tokenizer, without), *continuation_ids(tokenizer, without, " a cat")]
    assert ids == tokenizer.encode("the answer is a cat")


def test_a_prompt_that_is_empty_or_too_long(plain: Path) -> None:
    model: Any = open_model(plain, device="cpu")
    twin, tokenizer = AutoModelForCausalLM.from_pretrained(plain), AutoTokenizer.from_pretrained(plain)
    (found,) = values(model, [Request("", plain=True)], [["ab"]])
    assert found == pytest.approx([by_hand(twin, [tokenizer.eos_token_id], tokenizer("ab")["input_ids"])], abs=1e-4)
    long = "".join(chr(97 + place % 26) for place in range(700))
    (found,) = values(model, [Request(long, plain=True)], [[" xyz"]])
    context, answer = tokenizer(long)["input_ids"], tokenizer(" xyz")["input_ids"]
    # 512 positions are read: all of the continuation but its last token, and what is left for the prompt.
    assert found == pytest.approx([by_hand(twin, context[-509:], answer)], abs=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "granite"])
def test_a_model_that_changes_its_logits_after_the_head(tmp_path: Path, family: str) -> None:
    folder = save_tiny_language_model(tmp_path / family, family)
    model, twin = open_model(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = values(model, [Request("hi", plain=True), Request("a longer one", plain=True)], [[" yes", " no"], [" x"]])
    context = tokenizer("hi")["input_ids"]
    wanted = [by_hand(twin, context, tokenizer(text)["input_ids"]) for text in (" yes", " no")]
    assert found[0] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_sees(tmp_path: Path, family: str) -> None:
    folder = save_native(tmp_path / family, family, chat_template=template(family))
    model: Any = open_model(folder, device="cpu")
    twin, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    red, blue = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    requests = [Request("what is it?", [red]), Request("and this one, which is longer?", [blue]), Request("no picture")]
    texts = [["A", "B", "long"], ["A", "B"], ["A"]]
    found = values(model, requests, texts)
    assert found[0][:2] != pytest.approx(found[1][:2], abs=1e-3)  # the picture shows
    for request, several, wanted_texts in zip(requests, found, texts, strict=True):
        content = [
            *({"type": "image", "image": one} for one in request.images),
            {"type": "text", "text": request.prompt},
        ]
        inputs = processor.apply_chat_template(
            [[{"role": "user", "content": content}]],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        context = inputs.pop("input_ids")[0].tolist()
        types = {name: inputs.pop(name) for name in list(inputs) if name.endswith("token_type_ids")}
        inputs.pop("attention_mask")
        for text, value in zip(wanted_texts, several, strict=True):
            answer = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            longer = {name: torch.cat([one, one.new_zeros(1, len(answer))], dim=1) for name, one in types.items()}
            assert value == pytest.approx(by_hand(twin, context, answer, **inputs, **longer), abs=2e-4)


def test_a_student_that_sees(tmp_path: Path) -> None:
    eyes = {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}
    content = {"vision_encoder": eyes, "projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    base = str(save_chatty_llama(tmp_path / "base"))
    spec = StudentSpec.model_validate({**content, "language_model": {"source": base}})
    save_student(*build_student(spec), spec, tmp_path / "student")
    model: Any = open_model(tmp_path / "student", device="cpu")
    loaded = load_student(tmp_path / "student")
    red, blue = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
    requests = [
        Request("what color?", [red], keys=("r",)),
        Request("a longer question: what color?", [blue], keys=("b",)),
        Request("hi"),
        Request("text that goes", plain=True),
    ]
    texts = [["A", "B", "red"], ["A"], ["red", "A"], [" on", " A"]]
    found = values(model, requests, texts)
    tokenizer = loaded.processor.tokenizer
    for request, several, wanted_texts in zip(requests, found, texts, strict=True):
        parts = [*({"type": "image"} for _ in request.images), {"type": "text", "text": request.prompt}]
        sizes = [one.size for one in request.images]
        messages = [{"role": "user", "content": parts}]
        context = list(loaded.processor.render(messages, add_generation_prompt=True, sizes=sizes).ids)
        if request.plain:
            context = tokenizer.encode(request.prompt)
        pixels = loaded.processor.pixel_values(request.images) if request.images else None
        for text, value in zip(wanted_texts, several, strict=True):
            answer = tokenizer.encode(text, add_special_tokens=False)
            ids = torch.tensor([[*context, *answer]])
            rows = torch.arange(len(context) - 1, ids.shape[1] - 1)
            with torch.no_grad():
                logits = loaded.student(ModelInputs(ids, torch.ones_like(ids), rows, pixels)).log_softmax(-1)
            assert value == pytest.approx(logits[range(len(answer)), answer].sum().item(), abs=2e-4)
    alone = [values(model, [request], [several])[0] for request, several in zip(requests, texts, strict=True)]
    assert [one for s in alone for one in s] == pytest.approx([one for s in found for one in s], abs=2e-4)
