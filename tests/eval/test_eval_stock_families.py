"""Every stock image-text family: the same greedy answers alone, together, and with images encoded and read once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models import Request, assembling, features, open_model
from taid_vlm_eval.models.assembling import Assembled
from tests.eval.pictured import Calls, logits_of, noise, requests
from tests.tiny.native import MAKERS, save_native

FAMILIES = sorted(MAKERS)
# How each family's own template writes the place of an image.
PLACES = {
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<start_of_image>",
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "<|vision_start|><|image_pad|><|vision_end|>"),
}


def template(family: str) -> str:
    place = PLACES.get(family, "<image>")
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
        "{% if part.type == 'image' %}" + place + "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: save_native(root / family, family, chat_template=template(family)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_equal_alone_together_and_with_images_reused(family: str, folders: dict[str, Path]) -> None:
    plain = open_model(folders[family], device="cpu", reuse_images=False)
    reused = open_model(folders[family], device="cpu")
    alone = [logits_of(plain, [request], 3)[0] for request in requests()]
    ways = {
        "together": logits_of(plain, requests(), 3),
        "reused alone": [logits_of(reused, [request], 3)[0] for request in requests()],
        "reused together": logits_of(reused, requests(), 3),
        "from the cache": logits_of(reused, requests()[::-1], 3)[::-1],
    }
    for name, logits in ways.items():
        for index, (one, truth) in enumerate(zip(logits, alone, strict=True)):
            torch.testing.assert_close(
                one, truth, rtol=1e-4, atol=1e-4 * truth.std().item(), msg=lambda m, n=name, i=index: f"{n} {i}: {m}"
            )
    assert reused.not_reused == ""
    # The pictures and the questions show.
    assert min((alone[0] - alone[other]).abs().max() for other in (1, 2, 3, 4)) > 0.01 * alone[0].std()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_picture_is_encoded_once(family: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(folders[family], device="cpu")
    asked = [one for one in requests() if one.keys and not (family == "llava_onevision" and len(one.images) > 1)]
    model.generate(asked, 2)  # the first request of each kind is given to the processor as well
    calls = Calls(model, monkeypatch)
    fresh = [replace(one, keys=tuple("fresh " + key for key in one.keys)) for one in asked]
    assert all(isinstance(part.inputs, Assembled) for part in model.prepare(asked))
    for _ in range(2):
        model.generate(fresh, 2)
        model.generate(fresh[::-1], 2)
    assert (calls.encoded, calls.preprocessed) == (2, 2)
    # Without a key, once in a batch.
    calls.encoded = 0
    model.generate([replace(one, keys=()) for one in asked], 2)
    assert calls.encoded == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_about_a_picture_read_it_once(
    family: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = open_model(folders[family], device="cpu"), noise(0, 50, 40)
    asked = [Request("?" * count, [image], ("one",)) for count in range(1, 9)]
    answers = model.generate(asked, 2)
    calls = Calls(model, monkeypatch)
    ids = model.prepare(asked)[0].inputs.ids
    place = len(ids[0]) - ids[0][::-1].index(model._model.config.image_token_id)
    assert model.generate(asked, 2) == answers
    shared = place + sum(len(row) - place for row in ids)
    # Gemma's layers see windows, and their keys and values cannot be handed on.
    assert calls.read == (sum(map(len, ids)) if family == "gemma3" else shared)


TILES = {"internvl": "max_patches", "smolvlm": "size", "idefics3": "size"}


@pytest.mark.parametrize("family", FAMILIES)
def test_tiles_are_limited_where_a_family_has_a_setting(family: str, folders: dict[str, Path]) -> None:
    model = open_model(folders[family], device="cpu")
    assert model.describe()["max_tiles"] == TILES.get(family, "not kept")
    image = noise(0, 60, 62)
    asked = [Request("?", [image], ("one",), max_tiles=most) for most in (None, 1, 2)]
    own, one, two = (len(ids) for ids in model.prepare(asked)[0].inputs.ids)
    assert (one < own) == (family in TILES)
    assert one <= two <= own
    plain = open_model(folders[family], device="cpu", reuse_images=False)
    alone = [logits_of(plain, [request], 2)[0] for request in asked]
    for logits, truth in zip(logits_of(model, asked, 2), alone, strict=True):
        torch.testing.assert_close(logits, truth, rtol=1e-4, atol=1e-4 * truth.std().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_of_a_picture_are_told_by_its_size(family: str, folders: dict[str, Path]) -> None:
    model = open_model(folders[family], device="cpu")
    for size in ((50, 40), (80, 30), (20, 61), (32, 32)):
        for most in (None, 1):
            asked = [Request("?", [noise(0, *size)], max_tiles=most), Request("?")]
            with_one, without = map(len, model.prepare(asked)[0].inputs.ids)
            # Markers and line breaks around it are not always counted.
            assert 0 <= with_one - without - model.picture_tokens(*size, most) <= 8


def test_a_layout_places_pictures_in_the_text(folders: dict[str, Path]) -> None:
    model, one, two = open_model(folders["llava"], device="cpu"), noise(0, 50, 40), noise(1, 80, 30)
    parts = ("before ", 1, " and ", 0, " after?")
    (part,) = model.prepare([Request("before  and  after?", [one, two], ("one", "two"), layout=parts)])
    picture = "<image>" * 16
    written = f"before {picture} and {picture} after?"
    assert written in model._tokenizer.decode(part.inputs.ids[0])
    assert part.inputs.pictures[0] == tuple(
        model._cache.get((key, None), lambda: pytest.fail("made again")) for key in ("two", "one")
    )
    plain = open_model(folders["llava"], device="cpu", reuse_images=False)
    both = [
        Request("", [one, two], layout=parts),
        Request("", [two, one], layout=("before ", 0, " and ", 1, " after?")),
    ]
    first, second = logits_of(plain, both, 2)
    torch.testing.assert_close(first, second)
    for logits, truth in zip(logits_of(model, both, 2), (first, second), strict=True):
        torch.testing.assert_close(logits, truth, rtol=1e-4, atol=1e-4 * truth.std().item())


@pytest.mark.parametrize("reuse", [True, False])
def test_a_placeholder_in_a_question_is_told(reuse: bool, folders: dict[str, Path]) -> None:
    model = open_model(folders["llava"], device="cpu", reuse_images=reuse)
    for images in ([], [noise(0, 50, 40)]):
        with pytest.raises(UserError, match=r"more places for images \('<image>'\) than its . images: '<image> what"):
            model.generate([Request("<image> what is it?", images)], 2)


@pytest.mark.parametrize("broken", ["encoder", "picture", "text", "words"])
def test_what_cannot_be_reused_is_read_by_the_processor(
    broken: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_model(folders["internvl"], device="cpu", reuse_images=False)
    model = open_model(folders["internvl"], device="cpu")
    expected = plain.generate(requests(), 4)
    if broken == "encoder":  # its output has a field of unknown use
        monkeypatch.setattr(features, "UNREAD", set())
    elif broken == "picture":
        monkeypatch.setattr(assembling, "read_picture", lambda *_: [].pop())
    elif broken == "words":  # a tokenizer that does not give back what it read
        with monkeypatch.context() as patch:
            patch.setattr(PreTrainedTokenizerFast, "decode", lambda *_, **__: "<IMG_CONTEXT>")
            model.prepare(requests())
    else:
        monkeypatch.setattr(assembling, "_tokens", lambda *_: ([], []))
    assert model.generate(requests(), 4) == expected
    assert model.generate(requests(), 4) == expected
    reasons = {
        "encoder": "last_hidden_state of its encoder",
        "picture": "takes no image alone (IndexError",
        "text": "",
        "words": "not those of their text",
    }
    assert reasons[broken] in model.not_reused
    assert not any(isinstance(part.inputs, Assembled) for part in model.prepare(requests()))


def test_batches_are_prepared_in_several_threads(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(folders["smolvlm"], device="cpu")
    expected = [row for part in model.prepare(requests()) for row in part.inputs.ids]
    calls = Calls(model, monkeypatch)
    asked = [replace(one, keys=tuple("fresh " + key for key in one.keys)) for one in requests()]
    with ThreadPoolExecutor(4) as pool:
        for parts in pool.map(model.prepare, [asked] * 12):
            assert [row for part in parts for row in part.inputs.ids] == expected
    # Two pictures with keys, once; the one without, twelve times.
    assert calls.preprocessed == 2 + 12
