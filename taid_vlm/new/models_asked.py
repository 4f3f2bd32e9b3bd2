"""What the models themselves say: template and image token of the language model, size and grid of the encoder."""

import json
import re
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.doctor.surroundings import hub
from taid_vlm.models.encoders.libraries import LIBRARIES

PROBE = [
    {"role": "user", "content": "a question"},
    {"role": "assistant", "content": "the answer"},
    {"role": "user", "content": "another"},
]
FACTORS = (4, 3, 2)
FEWEST = 16  # tokens that a picture keeps


def chat_template_of(source: str) -> tuple[str, str]:
    """Name of our template that asks as the tokenizer's own, and a line for people where there is none to compare.

    Looks at the tokenizer alone; where it cannot be read, chatml is a guess, and the line says so.
    """
    from taid_vlm.models.chat_template import end_of_turn, template_names, template_text
    from taid_vlm.models.rendering import render_text

    try:
        from transformers import AutoTokenizer

        # Without a look at the hub first, a missing network is found out in half a minute of retries.
        here = Path(source).expanduser().is_dir() or hub(offline=False).state != "reached"
        tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=here, trust_remote_code=False)
    except Exception as error:  # of many libraries, by many causes; the recipe can be written all the same
        return "chatml", f"{source} cannot be read here ({str(error).splitlines()[0]}): chat_template is a guess"
    fitting = []
    for name in template_names():
        text = template_text(name)
        try:
            end_of_turn(tokenizer, text)
            ours = render_text(tokenizer, text, PROBE, add_generation_prompt=True, image_blocks=[])[0]
        except Exception:  # a template of another family
            continue
        fitting.append(name)
        if tokenizer.chat_template is not None:
            theirs = tokenizer.apply_chat_template(PROBE, tokenize=False, add_generation_prompt=True)
            if ours == theirs:
                return name, ""
    usual = "chatml" if "chatml" in fitting else next(iter(fitting), None)
    if usual is None:
        raise UserError(
            f"none of our chat templates fits the tokenizer of {source}; see docs/templates.md for one of your own"
        )
    return (
        usual,
        ""
        if tokenizer.chat_template is None
        else f"no template asks exactly as {source} does; {usual} fits its tokens",
    )


def encoder_of(text: str) -> dict[str, Any]:
    """The keys of ``vision_encoder`` for LIBRARY:NAME.

    Raises:
        UserError: not of that form.
    """
    library, colon, name = text.partition(":")
    known = LIBRARIES.names()
    if not colon or library not in known or not name:
        raise UserError(
            f"--encoder is {text!r}, expected LIBRARY:NAME with {', '.join(known)} as LIBRARY, such as timm:resnet50"
        )
    return {"library": library, "name": name, "image_size": _image_size(library, name)}


def projector_of(encoder: dict[str, Any]) -> dict[str, Any]:
    """A projector that leaves few tokens of a picture where the encoder's grid is known, else one that keeps all."""
    grid = encoder["image_size"] // _patch(encoder["name"]) if _patch(encoder["name"]) else 0
    for factor in FACTORS:
        if grid and grid % factor == 0 and (grid // factor) ** 2 >= FEWEST:
            return {"name": "pixel_shuffle_linear", "options": {"factor": factor}}
    return {"name": "mlp"}


def _vision_config(name: str) -> dict[str, Any]:
    file = Path(name).expanduser() / "config.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return content.get("vision_config") or content


def _image_size(library: str, name: str) -> int:
    if isinstance(size := _vision_config(name).get("image_size"), int):
        return size
    if library == "timm":
        from timm.models import get_pretrained_cfg

        known = get_pretrained_cfg(name)
        return int(known.input_size[-1]) if known is not None else 224
    written = re.search(r"[-_](\d{3})$", name)
    return int(written[1]) if written else 224


def _patch(name: str) -> int | None:
    if isinstance(size := _vision_config(name).get("patch_size"), int):
        return size
    written = re.search(r"patch(\d+)", name)
    return int(written[1]) if written else None
