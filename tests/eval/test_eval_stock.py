"""A stock transformers language model: its answers are those of plain greedy decoding, alone or in a batch."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.models import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import small_task, with_chatml, without_speed, write_rows, write_task
from tests.tiny.language_model import save_chatty_llama

PROMPTS = ["hi", "what is in the picture?", "a much longer question, which makes the others padded", "hi there", "?"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chatty_llama(tmp_path_factory.mktemp("stock") / "plain")


@pytest.fixture(scope="module")
def chat(plain: Path) -> Path:
    return with_chatml(plain, plain.parent / "chat")


@torch.no_grad()
def greedy_by_hand(folder: Path, prompt: str, count: int) -> str:
    """The plain twin: one token at a time, no cache, no padding, no generate()."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(count):
        token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_answers_are_greedy_and_do_not_depend_on_the_batch(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    model = open_model(folder, device="cpu")
    together = model.generate([Request(prompt) for prompt in PROMPTS], 12)
    assert together == [model.generate([Request(prompt)], 12)[0] for prompt in PROMPTS]
    frame = "{}" if kind == "plain" else "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert together == [greedy_by_hand(folder, frame.format(prompt), 12) for prompt in PROMPTS]
    assert len(set(together)) > 2


def test_what_a_checkpoint_says_on_sampling_is_dropped(tmp_path: Path, plain: Path) -> None:
    expected = open_model(plain, device="cpu").generate([Request(PROMPTS[1])], 12)
    folder = shutil.copytree(plain, tmp_path / "copy")
    wild = {"do_sample": True, "temperature": 5.0, "top_k": 0, "repetition_penalty": 3.0, "eos_token_id": 2}
    wild |= {"no_repeat_ngram_size": 1, "num_beams": 3, "suppress_tokens": [5, 6, 7], "max_length": 3}
    (folder / "generation_config.json").write_text(json.dumps(wild))
    model = open_model(folder, device="cpu")
    for _ in range(2):
        assert model.generate([Request(PROMPTS[1])], 12) == expected


def test_an_answer_ends_where_the_checkpoint_says(tmp_path: Path, plain: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "copy")
    whole = open_model(plain, device="cpu").generate([Request("hi")], 12)[0]
    star = AutoTokenizer.from_pretrained(plain).convert_tokens_to_ids("*")
    assert "*" in whole[1:]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, star]}))
    ended = open_model(folder, device="cpu").generate([Request("hi")], 12)[0]
    assert ended.rstrip("*") == whole[: whole.index("*")]


def test_it_says_what_it_is(plain: Path, chat: Path) -> None:
    said = open_model(plain, device="cpu").describe()
    assert (said["adapter"], said["name"], said["class"]) == ("transformers", "plain", "LlamaForCausalLM")
    assert (said["dtype"], said["template"]) == ("float32", "none (plain prompt)")
    assert open_model(chat, device="cpu").describe()["template"] == "own"
    assert open_model(plain, device="cpu", dtype="bfloat16").describe()["dtype"] == "bfloat16"
    assert open_model(plain, device="cpu").describe() == said


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_whole_evaluation_is_equal_for_every_batch_size(tmp_path: Path, chat: Path, batch_size: int) -> None:
    write_rows(tmp_path, [{"question": prompt, "answer": "a"} for prompt in PROMPTS])
    task = write_task(tmp_path, generation={"max_new_tokens": 8})
    for name, size in (("small", batch_size), ("large", 32)):
        evaluate(open_model(chat, device="cpu"), [task], output_dir=tmp_path / name, batch_size=size)
    small, large = (tmp_path / name / "small.answers.jsonl" for name in ("small", "large"))
    assert small.read_bytes() == large.read_bytes()
    assert without_speed(tmp_path / "small" / "small.result.json") == without_speed(
        tmp_path / "large" / "small.result.json"
    )


def test_pictures_need_a_model_that_sees(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(UserError, match="plain is a language model, but the task has images"):
        open_model(plain, device="cpu").generate([Request("?", [Image.new("RGB", (2, 2))])], 2)
    with pytest.raises(UserError, match="choose a model that sees"):
        evaluate(open_model(plain, device="cpu"), [small_task(tmp_path)], output_dir=tmp_path / "out")


def test_a_tokenizer_that_cannot_pad_is_told(tmp_path: Path, plain: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    eos, pad = config.pop("eos_token"), config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="tokenizer of copy has no pad_token and no eos_token"):
        open_model(folder)
    # One of the two is enough.
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": eos}))
    assert pad
    assert len(open_model(folder, device="cpu").generate([Request("a"), Request("bcd")], 2)) == 2


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_an_answer_goes_on_from_its_start(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    frame = "{}" if kind == "plain" else "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    begun = [Request(prompt, answer_start="It is ") for prompt in PROMPTS[:3]]
    expected = [greedy_by_hand(folder, frame.format(prompt) + "It is ", 12) for prompt in PROMPTS[:3]]
    assert open_model(folder, device="cpu").generate(begun, 12) == expected


def test_earlier_turns_are_part_of_the_prompt(plain: Path, chat: Path) -> None:
    turns = (("hi", "yes"), ("what?", "no"))
    frame = "<|im_start|>{}\n{}<|im_end|>\n".format
    text = "".join(frame("user", one) + frame("assistant", other) for one, other in turns)
    text += frame("user", "why") + "<|im_start|>assistant\n"
    asked = [Request("why", earlier=turns)]
    assert open_model(chat, device="cpu").generate(asked, 12) == [greedy_by_hand(chat, text, 12)]
    assert open_model(plain, device="cpu").generate(asked, 12) == [greedy_by_hand(plain, "hi\nyes\nwhat?\nno\nwhy", 12)]


def test_a_common_beginning_is_read_once(chat: Path) -> None:
    model = open_model(chat, device="cpu")
    shots = "a question and its answer, so that the model knows what is asked for; " * 3
    asked = [Request(shots + prompt) for prompt in PROMPTS]
    alone = [model.generate([one], 12)[0] for one in asked]
    read, generate = [], model._model.generate

    def watched(**named: Any) -> Any:
        read.append(tuple(named["attention_mask"].shape))
        return generate(**named)

    model._model.generate = watched
    assert model.generate(asked, 12) == alone
    ids = model.prepare(asked)[0].inputs.ids
    common = next(at for at, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1)
    assert common > len(shots) / 4
    assert read[0] == (1, common)
    assert len(read) == 2


def test_the_end_of_texts_ends_an_answer_that_the_checkpoint_would_go_on_from(tmp_path: Path, plain: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "copy")
    whole = open_model(plain, device="cpu").generate([Request("hi")], 12)[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "*"}))
    assert "*" in whole[1:]
    assert open_model(folder, device="cpu").generate([Request("hi")], 12)[0] == whole[: whole.index("*")].strip()
