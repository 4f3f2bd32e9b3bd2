"""Opening a stock checkpoint: a folder with config.json, or a hub id."""

from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.remote_code import refusal
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.native.families import FAMILIES
from taid_vlm.models.native.internvl2.cached import stock_source
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.native.processor import NativeProcessor, asks_alike, check_template


def is_native(source: str) -> bool:
    """Whether a checkpoint is for transformers to open: a folder with config.json, or a hub id.

    Raises:
        UserError: a path at which there is no folder.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return (folder / "config.json").is_file() and not (folder / "student.json").is_file()
    if _is_path(source):
        raise UserError(_missing(source, folder))
    return source.count("/") == 1


def _is_path(source: str) -> bool:
    """Whether a name can be no hub id (owner/name), or is meant for a path: a folder that is there begins it."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source.split("/")[0]).is_dir()


def _missing(source: str, folder: Path) -> str:
    beside = sorted(one.name for one in folder.parent.iterdir() if one.is_dir()) if folder.parent.is_dir() else []
    near = did_you_mean(folder.name, beside)
    known = f"; in {folder.parent}: {near}" if beside and (near.startswith("did") or len(beside) <= 8) else ""
    hub = ""
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        hub = f". For a hub id of this name run where no folder {folder.parent} is"
    return f"no checkpoint at {source}: there is no such folder{known}{hub}"


def open_native(
    source: str,
    chat_template: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    load_weights: bool = True,
) -> tuple[NativeModel, NativeProcessor]:
    """The model in evaluation mode, and its processor.

    Args:
        chat_template: one of our templates, or a .jinja file; that of the family when None.
        load_weights: False builds the model on the meta device from its config.

    Raises:
        UserError: no checkpoint is there, its family is not known, or its own chat template asks in another form.
    """
    source = stock_source(
        str(Path(source).expanduser()) if source.startswith("~") else source, revision, weights=load_weights
    )
    config = native_config(source, revision)
    family = FAMILIES.get(config.model_type)
    name = chat_template or family.template_for(config.get_text_config().model_type)
    try:
        stock, model = _open(source, config, revision, dtype, load_weights)
    except (OSError, ValueError, UnpicklingError) as error:
        why = refusal(error) or str(error).splitlines()[0]
        raise UserError(f"cannot load the teacher {source!r}: {why}") from error
    processor = NativeProcessor(stock, family, template_text(name))
    if chat_template is None:
        processor = _asking_as_its_own(processor, name)
    return NativeModel(model).requires_grad_(False).eval(), processor


def _asking_as_its_own(processor: NativeProcessor, name: str) -> NativeProcessor:
    """The processor with the family's template that asks as the checkpoint's own does.

    Raises:
        UserError: none does; what the first one asks is shown.
    """
    for other in processor.family.other_templates:
        if asks_alike(processor.stock, template_text(other)):
            return NativeProcessor(processor.stock, processor.family, template_text(other))
    check_template(processor, name)
    return processor


def native_config(source: str, revision: str | None = None) -> Any:
    """Config of a checkpoint of a known family.

    Raises:
        UserError: none is there, or another family.
    """
    from transformers import AutoConfig

    source = stock_source(source, revision, weights=False)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if why := refusal(error):
            raise UserError(
                f"cannot load the teacher {source!r}: {why}; vision-language families that can teach: {', '.join(FAMILIES)}"
            ) from error
        raise UserError(
            f"cannot load the teacher {source!r}: {str(error).splitlines()[0]}. Give a hub id, or the folder of a checkpoint of transformers "
            f"or of a saved student"
        ) from error
    if config.model_type not in FAMILIES:
        raise UserError(
            f"the teacher {source!r} is of family {config.model_type!r}; vision-language families that can teach: {', '.join(FAMILIES)}. "
            f"A plain language model goes under teacher.language_model"
        )
    return config


def _open(source: str, config: Any, revision: str | None, dtype: torch.dtype, load_weights: bool) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    options: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": False,
    }  # no family that can teach needs code of its own
    stock: Any = AutoProcessor.from_pretrained(source, **options)
    if backend := getattr(config, "image_backend", None):  # of a converted checkpoint, whose pixels were Pillow's
        stock.image_processor = AutoImageProcessor.from_pretrained(source, backend=backend, **options)
    with nullcontext() if load_weights else torch.device("meta"):
        if load_weights:
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **options)
        else:
            model = AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)
    return stock, model
