"""A stock image-text model: a tiny random LLaVA, as transformers files it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.models import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import small_task
from tests.tiny.language_model import SPECIALS, tiny_llama, tiny_tokenizer
from tests.tiny.vision import SHAPE

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<empty_output>{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock") / "llava"
    torch.manual_seed(3)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**SHAPE),
        text_config=tiny_llama(tied=False).config,
        image_token_index=SPECIALS.index("<empty_output>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        # Weights so large that the (meaningless) answers depend on the picture.
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(50 if "embed_tokens" in name else 8)
        model.lm_head.weight[: len(SPECIALS)] = 0
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
        tokenizer=tiny_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<empty_output>",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def requests() -> list[Request]:
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    return [
        Request("what color?", [red]),
        Request("no picture here"),
        Request("what color?", [blue]),
        Request("which of the two is longer?", [red, blue]),
        Request("hi"),
    ]


def test_answers_do_not_depend_on_the_batch_and_follow_the_picture(llava: Path) -> None:
    model = open_model(llava, device="cpu")
    assert model.describe()["class"] == "LlavaForConditionalGeneration"
    together = model.generate(requests(), 8)
    assert together == [model.generate([request], 8)[0] for request in requests()]
    assert all(together)
    assert together[0] != together[2]


def test_a_task_with_pictures_runs(llava: Path, tmp_path: Path) -> None:
    (result,) = evaluate(open_model(llava, device="cpu"), [small_task(tmp_path)], output_dir=tmp_path / "out")
    assert (result.n, result.errors) == (10, 0)
    assert result.model["template"] == "own"


def test_a_model_that_sees_needs_a_template(llava: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bare"
    copy.mkdir()
    for path in llava.iterdir():
        if path.name == "chat_template.jinja":
            continue
        text = path.read_bytes()
        if path.suffix == ".json":
            content = json.loads(text)
            content.pop("chat_template", None)
            text = json.dumps(content).encode()
        (copy / path.name).write_bytes(text)
    with pytest.raises(UserError, match="bare has no chat template, so where its images go in a prompt is unknown"):
        open_model(copy)
