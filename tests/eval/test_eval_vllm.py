"""The vLLM adapter against a stand-in that has vLLM's calls by name and keyword; the real one where it is installed and a GPU is there.

The stand-in follows ``vllm.LLM.__init__``, ``vllm.LLM.chat`` and ``vllm.SamplingParams`` of vLLM 0.9 and later. It cannot show that vLLM
computes the right thing, only that it is called as it wants to be.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.models.protocol import Request


class SamplingParams:
    def __init__(
        self,
        *,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        max_tokens: int | None = 16,
        stop: str | list[str] | None = None,
    ) -> None:
        self.temperature, self.seed, self.max_tokens, self.stop = temperature, seed, max_tokens, stop


class LLM:
    made: list["LLM"]

    def __init__(
        self,
        model: str,
        *,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not Path(model).is_dir():
            raise ValueError(f"no such model: {model}")
        assert not kwargs
        self.model, self.trust_remote_code, self.dtype, self.seed = model, trust_remote_code, dtype, seed
        self.calls: list[dict[str, Any]] = []
        LLM.made.append(self)

    def chat(
        self,
        messages: list[Any],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        lora_request: Any = None,
        chat_template: str | None = None,
        chat_template_content_format: str = "auto",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[Any]:
        assert isinstance(sampling_params, list)
        assert len(sampling_params) == len(messages)
        assert not (add_generation_prompt and continue_final_message)  # vLLM refuses both
        self.calls.append({"messages": messages, "sampling": sampling_params, "goes on": continue_final_message})
        texts = [f" {turns[-1]['content'] if continue_final_message else len(turns)} " for turns in messages]
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text)]) for text in texts]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    LLM.made = []
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_questions_go_to_the_engine_greedily_with_their_pictures(stand_in: None, tmp_path: Path) -> None:
    image = Image.new("RGB", (3, 2), "red")
    model = open_model(f"vllm:{tmp_path}", dtype="bfloat16")
    said = model.generate(
        [
            Request("one", [image]),
            Request("begun", [image], answer_start="Answer:"),
            Request("two", [image], earlier=(("one", "red"),)),
        ],
        7,
    )
    assert said == ["1", "Answer:", "3"]
    (engine,) = LLM.made
    assert (engine.dtype, engine.trust_remote_code, engine.seed) == ("bfloat16", False, 0)
    plain, begun = engine.calls
    assert {(one.temperature, one.max_tokens, one.seed, one.stop) for one in plain["sampling"]} == {(0.0, 7, 0, None)}
    first = plain["messages"][0][0]["content"]
    assert [part["type"] for part in first] == ["image_pil", "text"]
    assert first[0]["image_pil"] is image
    assert begun["goes on"]
    assert begun["messages"][0][-1] == {"role": "assistant", "content": "Answer:"}


def test_a_checkpoint_is_known_by_its_content(stand_in: None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first = open_model(f"vllm:{tmp_path}").describe()
    assert open_model(str(tmp_path), "vllm").describe() == first
    (tmp_path / "config.json").write_text('{"a": 1}')
    second = open_model(f"vllm:{tmp_path}").describe()
    assert {key for key in first if first[key] != second[key]} == {"identity"}


def test_what_it_cannot_do_is_told(stand_in: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vLLM does not load nobody/nothing: no such model"):
        open_model("vllm:nobody/nothing")
    with pytest.raises(UserError, match="a served model cannot be told so"):
        open_model(f"vllm:{tmp_path}").generate([Request("q", max_tiles=6)], 4)
    for plain in (Request("q", plain=True), Request("", plain=True, ids=(1, 2))):
        with pytest.raises(UserError, match="outside any chat template"):
            open_model(f"vllm:{tmp_path}").generate([plain], 4)


def test_stops_are_each_requests_own_and_cut_what_comes_back(stand_in: None, tmp_path: Path) -> None:
    model = open_model(f"vllm:{tmp_path}")
    said = model.generate(
        [Request("a", answer_start="one, two", stops=("", ",")), Request("b", answer_start="one, two")], 7
    )
    assert said == ["one", "one, two"]
    assert [one.stop for one in LLM.made[0].calls[0]["sampling"]] == [[","], None]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vLLM does not import .*pip install vllm"):
        open_model(f"vllm:{tmp_path}")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; it needs a machine that it supports")
def test_the_real_one_answers_as_transformers_does(language_model: Path) -> None:
    requests = [Request("the red square"), Request("a blue circle is")]
    theirs = open_model(f"vllm:{language_model}", dtype="float32").generate(requests, 6)
    ours = open_model(language_model, dtype="float32").generate(requests, 6)
    assert list(theirs) == list(ours)
