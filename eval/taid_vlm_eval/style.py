"""How a question is put, beyond what stands before and behind it: its wording, its pictures, and how the answer begins.

A protocol fills these in for each family of models and each task; a task file may do so as well.
"""

from dataclasses import dataclass, field

from taid_vlm.common.errors import UserError, did_you_mean

PLACES = ("first", "labelled", "marks", "numbered")
STARTS = ("always", "lettered")


@dataclass(frozen=True)
class Wording:
    """Templates from which a question is put together. In braces: ``{hint}``, ``{question}``, ``{options}`` and so on.

    Attributes:
        text: of ``{hint}``, ``{question}`` and ``{options}``; empty leaves the question to ``data`` and ``prompt`` of the task.
        hint: of ``{hint}``, where the item has one, else nothing.
        line: of ``{letter}`` and ``{text}``; the lines of all options make ``{lines}``.
        options: of ``{lines}``, where the item has options.
        open: where the item has none.
        options_zh, open_zh: in their place where hint, question or options hold a Chinese character; empty: no difference.
        replace: what is replaced in the whole by what, in this order.
        strip: whether white space goes at both ends, before and after the replacing.
        before, behind: what is put around the whole in the end.
    """

    text: str = ""
    hint: str = "{hint}\n"
    line: str = "{letter}. {text}"
    options: str = ""
    open: str = ""
    options_zh: str = ""
    open_zh: str = ""
    replace: dict[str, str] = field(default_factory=dict)
    strip: bool = False
    before: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Style:
    """Everything about a request that is neither the item nor the task's prompt.

    Attributes:
        protocol, family: whose style this is; both empty for a task's own.
        wording: see :class:`Wording`.
        images: where they stand: ``first``, before the text; ``labelled``, the same, but each of several behind its ``label``;
            ``marks``, where the text says "<image 2>", and first where it says nothing of the kind; ``numbered``, as SmolVLM has
            it, all before the text behind a label each, and named in the text in the order of the marks.
        label: of ``{number}``, from 1.
        replace_in_pieces: with ``numbered``, what is replaced by what in each piece of the text between two marks.
        max_tiles: upper limit of tiles for each image, where the model cuts images into tiles; None leaves the checkpoint's own.
        tiles_in_all: several images share so many tiles evenly, when that is fewer than ``max_tiles`` each.
        first_image_scale: the first image is enlarged so many times, bilinearly.
        jpeg: a single image goes through a JPEG of quality 75 first.
        answer_start: what the answer begins with.
        answer_starts: ``always``, or ``lettered``, only where the text holds "A." and "B.".
    """

    protocol: str = ""
    family: str = ""
    wording: Wording = field(default_factory=Wording)
    images: str = "first"
    label: str = ""
    replace_in_pieces: dict[str, str] = field(default_factory=dict)
    max_tiles: int | None = None
    tiles_in_all: int | None = None
    first_image_scale: int = 1
    jpeg: bool = False
    answer_start: str = ""
    answer_starts: str = "always"


_FIELDS = {
    "text": ("hint", "question", "options"),
    "hint": ("hint",),
    "line": ("letter", "text"),
    "options": ("lines",),
    "options_zh": ("lines",),
}


def require_style(style: Style) -> None:
    """Refuse values that do not exist.

    Raises:
        UserError: it names the key, and what would be right.
    """
    for key, given, known in (("images", style.images, PLACES), ("answer_starts", style.answer_starts, STARTS)):
        if given not in known:
            raise UserError(f"unknown style.{key} {given!r}: {did_you_mean(given, known)}")
    least = {
        "max_tiles": style.max_tiles,
        "tiles_in_all": style.tiles_in_all,
        "first_image_scale": style.first_image_scale,
    }
    for key, number in least.items():
        if number is not None and number < 1:
            raise UserError(f"style.{key} is {number}, expected 1 or more")
    for key, names in _FIELDS.items():
        _require_fields(f"style.wording.{key}", getattr(style.wording, key), names)
    _require_fields("style.label", style.label, ("number",))


def _require_fields(key: str, template: str, names: tuple[str, ...]) -> None:
    try:
        template.format(**dict.fromkeys(names, ""))
    except (KeyError, ValueError, IndexError) as error:
        braces = ", ".join(f"{{{name}}}" for name in names)
        raise UserError(
            f"{key} is {template!r} ({error}), expected a text with {braces}; a brace itself is written twice"
        ) from None
