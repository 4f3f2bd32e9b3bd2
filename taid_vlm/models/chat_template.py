"""Chat templates by name, and the check that one belongs to a tokenizer."""

from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.control_text import special_tokens
from taid_vlm.models.rendering import can_be_cut, render_text, tokenize

TEMPLATES = Path(__file__).parent / "templates"
# Families that write the very same text as another.
ALIASES = {"tinyllama": "zephyr", "stablelm_zephyr": "zephyr"}
PROBE = "the answer"
THOUGHTLESS = "<think>\n\n</think>"  # what a thinking model says before an answer without a thought


def template_text(name: str) -> str:
    """One of the templates that ship with the package, or the text of a ``.jinja`` file.

    Raises:
        UserError: no such template.
    """
    if name.endswith(".jinja"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"chat template not found: {path}")
        return path.read_text(encoding="utf-8")
    if name not in template_names():
        raise UserError(f"unknown chat template {name!r}: {did_you_mean(name, template_names())}")
    return (TEMPLATES / f"{ALIASES.get(name, name)}.jinja").read_text(encoding="utf-8")


def template_names() -> list[str]:
    """Names of the templates that ship with the package."""
    return sorted([*ALIASES, *(path.stem for path in TEMPLATES.glob("*.jinja"))])


def end_of_turn(tokenizer: Any, template: str) -> int:
    """The token that ends an answer, found by rendering one.

    Raises:
        UserError: it is not one token, or the template marks anything else beside it and the answer.
    """
    messages = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": PROBE}]
    text, spans = render_text(tokenizer, template, messages, add_generation_prompt=False, image_blocks=[])
    marked = "".join(text[start:past] for start, past in spans)
    before, _, end = (part.strip() for part in marked.partition(PROBE))
    if before not in ("", THOUGHTLESS) or not end:
        raise UserError(
            f"the chat template marks {marked!r} as what the assistant says, expected the answer {PROBE!r} and the token "
            f"that ends a turn. Put both, and nothing else, into {{% generation %}} blocks (a tokenizer without eos_token writes none)"
        )
    ids = tokenizer.encode(end, add_special_tokens=False)
    # GPT-NeoX and GPT-2 have one token for the end and for what is unknown.
    if len(ids) != 1 or (ids[0] == tokenizer.unk_token_id and end != tokenizer.unk_token):
        raise UserError(
            f"the chat template ends a turn with {end!r}, which is no token of this tokenizer: the template of another family? Choose the "
            f"chat_template of the language model; special tokens it has: {', '.join(special_tokens(tokenizer)[:20])}"
        )
    rendered = tokenize(tokenizer, text, spans, can_be_cut(tokenizer))
    said = [token for token, flag in zip(rendered.ids, rendered.answer_mask, strict=True) if flag]
    decoded = tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if said[-1:] != ids or "".join(decoded.split()) != "".join((before + PROBE + end).split()):
        raise UserError(
            f"the tokens of an answer that the chat template marks read {decoded!r}, expected {before + PROBE + end!r}: template and tokenizer do "
            f"not belong together"
        )
    return ids[0]
