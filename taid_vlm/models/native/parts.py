"""A stock InternVL checkpoint taken apart: vision encoder, projector and language model as the parts a student is assembled of.

So a released model can be the student of a recipe: the folder holds a ``student.yaml`` to name as its base.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.image_text import INTERNVL
from taid_vlm.models.images import FILTERS
from taid_vlm.models.native.families import FAMILIES
from taid_vlm.models.native.internvl2.cached import stock_source
from taid_vlm.models.native.internvl2.language_models import whole
from taid_vlm.models.native.internvl2.weights import WeightFiles, write_weights
from taid_vlm.models.native.processor import asks_alike

# Names in the checkpoint (the second are those of conversions before transformers 5), and in the part.
ENCODER = ((r"model\.vision_tower\.", r"vision_tower\."), "")
PROJECTOR = ((r"model\.multi_modal_projector\.", r"multi_modal_projector\."), "")
LANGUAGE = ((r"model\.language_model\.", r"language_model\.model\."), "model.")
HEAD = ("lm_head.weight", "language_model.lm_head.weight")


def split_into_parts(source: str, target: Path) -> None:
    """Write ``target`` with ``vision_encoder``, ``projector``, ``language_model`` and ``student.yaml``; values and types stay.

    Args:
        source: folder or hub id of class InternVL, stock or as InternVL2 was released.

    Raises:
        UserError: another class, weights that fit no part, or a chat template that is none of ours; no space left.
    """
    from transformers import AutoConfig, AutoProcessor

    folder = Path(stock_source(source)).expanduser()
    if not folder.is_dir():
        folder = _fetched(source)
    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type != "internvl":
        raise UserError(f"{source} is of family {config.model_type!r}; only InternVL can be taken apart")
    stock: Any = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    files = WeightFiles(folder)
    plans = _plans(files, source)
    template = _template(stock, config)
    require_space(target, files.nbytes + (1 << 27), f"the parts of {source}")
    with new_folder(target) as made:
        for name, plan in plans.items():
            (made / name).mkdir()
            write_weights(files, plan, made / name)
        config.vision_config.save_pretrained(made / "vision_encoder")
        stock.image_processor.save_pretrained(made / "vision_encoder")
        config.text_config.save_pretrained(made / "language_model")
        stock.tokenizer.save_pretrained(made / "language_model")
        about = {"student": _student(stock, config, template)}
        (made / "student.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


def _plans(files: WeightFiles, source: str) -> dict[str, Any]:
    plans: dict[str, Any] = {"vision_encoder": {}, "projector": {}, "language_model": {}}
    for name, shape in files.shapes.items():
        part, own = _place(name)
        if not part:
            raise UserError(f"{source} has a tensor {name!r}, which belongs to none of its three parts")
        plans[part][own] = (name, whole, shape)
    empty = [part for part, plan in plans.items() if not plan]
    if empty:
        raise UserError(f"{source} has no weights for {', '.join(empty)}")
    return plans


def _place(name: str) -> tuple[str, str]:
    if name in HEAD:
        return "language_model", "lm_head.weight"
    for part, (prefixes, own) in {
        "vision_encoder": ENCODER,
        "projector": PROJECTOR,
        "language_model": LANGUAGE,
    }.items():
        for prefix in prefixes:
            if re.match(prefix, name):
                return part, own + re.sub(f"^{prefix}", "", name)
    return "", ""


def _template(stock: Any, config: Any) -> str:
    """Which of ours asks as the checkpoint does.

    Raises:
        UserError: none.
    """
    family = FAMILIES.get("internvl")
    names = [*family.other_templates, family.template_for(config.text_config.model_type)]
    for name in names:
        if asks_alike(stock, template_text(name)):
            return name
    raise UserError(f"the checkpoint's chat template asks as none of {', '.join(names)} does")


def _student(stock: Any, config: Any, template: str) -> dict[str, Any]:
    """The ``student`` of a recipe; paths are relative to the file."""
    images = stock.image_processor
    filters = {int(value): name for name, value in FILTERS.items()}
    layer = config.vision_feature_layer
    tiles = {"tiling": "dynamic", "min_tiles": images.min_patches, "max_tiles": images.max_patches}
    return {
        "vision_encoder": {
            "library": "transformers",
            "name": "./vision_encoder",
            "image_size": images.size["height"],
            "interpolation": filters[int(images.resample)],
            "feature": "normed" if layer == -1 else layer,
        },
        "projector": {
            "name": "ln_pixel_shuffle_mlp",
            "options": {"factor": round(1 / config.downsample_ratio)},
            "weights": "./projector/model.safetensors",
        },
        "language_model": {"source": "./language_model"},
        "chat_template": template,
        "image_token": stock.image_token,
        "added_tokens": list(INTERNVL),
        "images": {"style": "internvl", **(tiles if images.max_patches > 1 else {"tiling": "none"})},
    }


def _fetched(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"])
        )
    except Exception as error:  # many types: of the network, of the hub, of the disk
        raise UserError(
            f"{source} is no folder, and cannot be fetched: {(str(error).splitlines() or ['no reason'])[0]}"
        ) from error
