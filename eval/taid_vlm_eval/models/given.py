"""What a caller may hand over as a model: a name, an opened one, or one that lives in his own program and is left as it was."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from taid_vlm.common.errors import UserError
from taid_vlm.common.modes import evaluating
from taid_vlm_eval.models import open_model
from taid_vlm_eval.models.protocol import Model


@runtime_checkable
class LiveStudent(Protocol):
    """A student with its processor, as ``taid_vlm.load_student`` returns it."""

    @property
    def student(self) -> Any: ...

    @property
    def processor(self) -> Any: ...

    @property
    def spec(self) -> Any: ...


Given = str | Path | Model | LiveStudent | nn.Module
EXPECTED = (
    "a folder or hub id, openai:MODEL@URL, vllm:PATH, what open_model or taid_vlm.load_student returns, or a model of transformers "
    "with processor="
)


@contextmanager
def opened(given: Given, processor: Any | None = None, **options: Any) -> Iterator[Model]:
    """The model to ask, for as long as the block lasts.

    A live one is in evaluation mode there, and has all modes of its parts back behind it; the processor is copied.

    Args:
        processor: of a live model of transformers: its processor, or the tokenizer of one that sees no pictures.
        options: of :func:`open_model`, for names.

    Raises:
        UserError: none of these, a processor or options that do not go with it, or see :func:`open_model`.
    """
    if processor is not None and not isinstance(given, nn.Module):
        raise UserError("processor= goes with a model of transformers that is handed over itself; leave it out")
    if isinstance(given, str | Path):
        yield open_model(given, **options)
        return
    if named := sorted(key for key, value in options.items() if value):
        raise UserError(
            f"{', '.join(named)}: of models that are opened by their name; this one is open, so leave them out"
        )
    if isinstance(given, nn.Module):
        with evaluating(given):
            yield _stock(given, processor)
    elif isinstance(given, LiveStudent):
        from taid_vlm_eval.models.student import live_student

        with evaluating(cast(nn.Module, given.student)):
            yield live_student(given)
    elif all(hasattr(given, name) for name in ("name", "describe", "generate")):
        yield given
    else:
        raise UserError(f"found {type(given).__name__} as the model, expected {EXPECTED}")


def _stock(model: Any, processor: Any | None) -> Model:
    from taid_vlm_eval.models.stock import StockModel

    found, config = type(model).__name__, getattr(model, "config", None)
    if config is None or not hasattr(model, "generation_config"):
        raise UserError(f"found {found}, which is no model of transformers that generates; expected {EXPECTED}")
    if processor is None:
        raise UserError(
            f"found {found} alone; hand over its processor too: evaluate(model, tasks, processor=processor)"
        )
    sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    inside = getattr(processor, "tokenizer", None)
    if sees and inside is None:
        raise UserError(
            f"{found} sees pictures, and processor= is a {type(processor).__name__}, which prepares none; hand over what "
            f"AutoProcessor.from_pretrained gives"
        )
    own = deepcopy(processor)
    tokenizer = own if inside is None else own.tokenizer
    name = Path(getattr(config, "_name_or_path", "") or found).name
    # Nobody can tell whether the weights are those of another call, so answers of another call are never taken over.
    return StockModel(model, own if sees else None, tokenizer, name, f"live-{uuid.uuid4().hex}")
