"""Questions about pictures, and what a model does with them."""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import pytest
import torch
from PIL import Image

from taid_vlm_eval.models import Request


def noise(seed: int, width: int, height: int) -> Image.Image:
    values = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def requests() -> list[Request]:
    one, two = noise(0, 50, 40), noise(1, 80, 30)
    turns = (("what is it?", "a cat"), ("really?", "no"))
    return [
        Request("what color?", [one], ("one",)),
        Request("and how many of them are there?", [one], ("one",)),
        Request("no picture here"),
        Request("what color?", [two], ("two",)),
        Request("which is longer?", [one, two], ("one", "two")),
        Request("so?", [one], ("one",), earlier=turns),
        Request("why", [two]),
        Request("hello", earlier=turns),
    ]


def logits_of(model: Any, batch: Sequence[Request], count: int) -> list[torch.Tensor]:
    """The answers' logits ``[count, V]`` of each request, from what the adapter itself gives its model to read."""
    inner = model._model
    generate, seen = inner.generate, []

    def watched(**arguments: Any) -> Any:
        if "return_dict_in_generate" in arguments:  # reads beginnings
            return generate(**arguments)
        out = generate(**arguments, output_logits=True, return_dict_in_generate=True, min_new_tokens=count)
        seen.append(torch.stack(out.logits, dim=1))
        return out.sequences

    inner.generate = watched
    try:
        prepared = model.prepare(batch)
        model.answer(prepared, count)
    finally:
        del inner.generate
    rows = [row for part in prepared for row in part.requests]
    logits = [one for part in seen for one in part]
    return [logits[rows.index(row)] for row in range(len(batch))]


class Calls:
    """Counts what a model does: pictures encoded, pictures preprocessed, and tokens that its language model reads."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoded, self.preprocessed, self.read = 0, 0, 0
        base, images = type(model._model.base_model), type(model._processor.image_processor)
        encode, preprocess, generate = base.get_image_features, images.preprocess, model._model.generate

        @wraps(encode)
        def encoding(*arguments: Any, **named: Any) -> Any:
            self.encoded += 1
            return encode(*arguments, **named)

        @wraps(preprocess)
        def preprocessing(*arguments: Any, **named: Any) -> Any:
            self.preprocessed += 1
            return preprocess(*arguments, **named)

        def reading(**named: Any) -> Any:
            known = named.get("cache")
            self.read += named["attention_mask"].sum().item()
            self.read -= 0 if known is None else named["attention_mask"][:, : known.get_seq_length()].sum().item()
            return generate(**named)

        monkeypatch.setattr(base, "get_image_features", encoding)
        monkeypatch.setattr(images, "preprocess", preprocessing)
        monkeypatch.setattr(model._model, "generate", reading)
