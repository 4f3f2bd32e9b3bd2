"""What a preview holds; :meth:`Preview.to_json` gives its figures as JSON's own types."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

Kind = Literal["text", "special", "image"]


@dataclass(frozen=True)
class Piece:
    """Tokens that are shown together: one, the parts of one character, or a run of equal ones.

    Attributes:
        text: as the tokenizer decodes it, not made safe for any output.
        ids: of the piece, once. repeats: how often they stand in a row.
        supervised: whether the student is taught to say it.
    """

    text: str
    ids: tuple[int, ...]
    kind: Kind
    supervised: bool
    repeats: int = 1

    @property
    def tokens(self) -> int:
        """How many tokens it is in the sequence."""
        return len(self.ids) * self.repeats


@dataclass(frozen=True)
class Left:
    """Pieces that are not shown, for there is no room."""

    tokens: int
    supervised: int


@dataclass(frozen=True)
class SideView:
    """A sample for one model; ``name`` is student or teacher, ``supervised`` a number of tokens."""

    name: str
    ids: list[int]
    supervised: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Cut:
    """A picture as a model takes it in.

    Attributes:
        names: the models that cut it so. tiles: how many there are in all.
        text: the same in words.
        mosaic: the tiles in their places, with gaps between them. thumbnail: the tile of the whole picture that follows them.
    """

    names: tuple[str, ...]
    tiles: int
    text: str
    mosaic: Image.Image
    thumbnail: Image.Image | None


@dataclass(frozen=True)
class PictureView:
    """A picture, upright, and how the models cut it."""

    name: str
    size: tuple[int, int]
    image: Image.Image
    cuts: list[Cut]


@dataclass(frozen=True)
class SampleView:
    """A sample that can be used; ``more_pictures`` are not among ``pictures``."""

    id: str
    trimmed: bool
    pictures: list[PictureView]
    more_pictures: int
    sides: list[SideView]


@dataclass(frozen=True)
class Dropped:
    """Samples that are left out for one reason, with the message of the first."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class SideFigures:
    """Lengths of the usable samples for one model, in tokens; ``answers`` are the supervised ones of all samples."""

    name: str
    tokens: int
    answers: int
    median: int
    p95: int
    longest: int

    @property
    def share(self) -> float:
        """Supervised tokens of all."""
        return self.answers / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Bin:
    """Samples of ``low`` to ``high`` tokens, both included, by model."""

    low: int
    high: int
    counts: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """Of the records that were looked at.

    Attributes:
        records: of the sources in all. measured: those looked at.
        samples: made of these; a record is one, a long text several. usable: samples that can be used.
        trimmed: usable samples that lost turns to fit. limit: data.max_length.
    """

    records: int
    measured: int
    samples: int
    usable: int
    trimmed: int
    limit: int
    dropped: tuple[Dropped, ...]
    sides: tuple[SideFigures, ...]
    histogram: tuple[Bin, ...]

    @property
    def scope(self) -> str:
        """Which records the figures are of, in words."""
        if self.measured == self.records:
            return f"all {self.records:,} records"
        return f"{self.measured:,} of {self.records:,} records, drawn at random; --scan looks at all"


@dataclass(frozen=True)
class Preview:
    """All that is shown.

    Attributes:
        split: train or validation. chosen: how the samples were chosen, in words.
        warnings: what would stop training, or what of the data it leaves out.
    """

    title: str
    description: str
    split: str
    chosen: str
    figures: Figures
    samples: list[SampleView]
    warnings: tuple[str, ...]

    @property
    def held_out(self) -> str:
        """What follows the scope of the figures, in words."""
        return ", held out (data.validation)" if self.split == "validation" else ""

    def to_json(self) -> dict[str, Any]:
        """The figures, and the names and lengths of the samples shown."""
        content = dataclasses.asdict(self.figures)
        for side, own in zip(self.figures.sides, content["sides"], strict=True):
            own["share"] = side.share
        shown = [
            {
                "id": sample.id,
                "trimmed": sample.trimmed,
                "pictures": len(sample.pictures) + sample.more_pictures,
                "sides": {side.name: {"tokens": len(side.ids), "answers": side.supervised} for side in sample.sides},
            }
            for sample in self.samples
        ]
        return content | {
            "split": self.split,
            "scope": self.figures.scope,
            "samples": shown,
            "chosen": self.chosen,
            "warnings": list(self.warnings),
        }
