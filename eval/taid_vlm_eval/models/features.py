"""What a stock model's encoder makes of one picture, and how the features of several enter one batch.

The image-text classes of transformers encode pictures in ``get_image_features`` of their base model, and scatter what it returns over the
image tokens. A picture is encoded alone, so that its features do not depend on its neighbours, and the method is replaced for the time of
a call by one that hands out the features of the batch. So the model does all else as it always does.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from taid_vlm_eval.models.pictures import Picture

METHOD = "get_image_features"
# What the encoder returns and the language model reads; the second are features for deeper layers (Qwen3-VL).
READ = ("pooler_output", "deepstack_features")
# What the encoder returns and nothing reads after it.
UNREAD = {"last_hidden_state", "hidden_states", "attentions"}
# Stands for the pixels in a call whose pictures are encoded: that there are some is all it tells.
NO_PIXELS = (1, 1)


@dataclass
class Features(ModelOutput):
    """What the language model reads of the encoder's output."""

    pooler_output: Any = None
    deepstack_features: Any = None


class CannotReuseError(Exception):
    """The model's pictures cannot be encoded one by one; says why."""


def cannot_encode_alone(model: Any) -> str:
    """Why the pictures of ``model`` cannot be encoded outside its forward pass; "" when they can."""
    if getattr(model.config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    return "" if hasattr(model.base_model, METHOD) else f"{type(model.base_model).__name__} has no {METHOD}"


def cannot_assemble(processor: Any) -> str:
    """Why the pictures' places cannot be found in a prompt of ``processor``; "" when they can."""
    has = isinstance(getattr(processor, "image_token", None), str)
    return "" if has else f"{type(processor).__name__} names no image_token"


def encode(model: Any, picture: Picture) -> None:
    """Encode a picture that is not encoded yet.

    Raises:
        CannotReuseError: the encoder returns what this module does not know how to join.
    """
    if picture.pixels is None:
        return
    encoder = getattr(model.base_model, METHOD)
    known = inspect.signature(encoder).parameters
    pixels = {key: to_model(value, model) for key, value in picture.pixels.items() if key in known}
    out = encoder(**pixels, return_dict=True) if "kwargs" in known or "return_dict" in known else encoder(**pixels)
    if isinstance(out, Tensor):  # the class of exported students that fit no stock one
        picture.encoded(_keep(out))
        return
    if not isinstance(out, ModelOutput) or not isinstance(out.get("pooler_output"), Tensor | list | tuple):
        raise CannotReuseError(f"{type(model).__name__} encodes pictures into a {type(out).__name__}")
    if more := set(out) - UNREAD - set(READ):
        raise CannotReuseError(f"{type(model).__name__} reads {', '.join(sorted(more))} of its encoder as well")
    picture.encoded({key: _keep(out[key]) for key in READ if out.get(key) is not None})


def joined(pictures: Sequence[Picture], device: torch.device) -> Features | Tensor:
    """The encoder's output for all pictures as if they had been encoded together."""
    parts = [picture.features for picture in pictures]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts).to(device)
    together = Features(_join([part["pooler_output"] for part in parts], device))
    if "deepstack_features" in parts[0]:
        layers = zip(*(part["deepstack_features"] for part in parts), strict=True)
        together.deepstack_features = [_join(list(layer), device) for layer in layers]
    return together


@contextmanager
def features_in_place(model: Any, pictures: Sequence[Picture]) -> Iterator[dict[str, Tensor]]:
    """Within it, a call of ``model`` reads the features of ``pictures``, in the order of their places in the batch.

    Yields:
        The arguments that the call must be given for them.
    """
    if not pictures:
        yield {}
        return
    base = model.base_model
    features = joined(pictures, model.device)
    more = {
        name: torch.cat([one.small[name] for one in pictures]).to(model.device) for name in sorted(pictures[0].small)
    }
    setattr(base, METHOD, _Hands(getattr(base, METHOD), features))
    try:
        yield {**more, "pixel_values": torch.zeros(NO_PIXELS, dtype=model.dtype, device=model.device)}
    finally:
        delattr(base, METHOD)


class _Hands:
    """A method that hands out what is ready; generation reads the signature of the one it stands for."""

    def __init__(self, method: Any, features: Any) -> None:
        self._features = features
        self.__signature__ = inspect.signature(method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._features


def to_model(value: Tensor, model: Any) -> Tensor:
    """On the device of ``model``; in its precision, where it has a fraction."""
    value = value.to(model.device)
    return value.to(model.dtype) if value.is_floating_point() else value


def _keep(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    return [_keep(one) for one in value]


def _join(values: list[Any], device: torch.device) -> Any:
    """One tensor of all rows, or one list of all pictures; which of the two is the model's."""
    if isinstance(values[0], Tensor):
        return torch.cat(values).to(device)
    return [one.to(device) for value in values for one in value]
