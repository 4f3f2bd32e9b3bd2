"""Figures of many records: lengths, supervised share, and what is left out and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median

from taid_vlm.data import BadSampleError, Pair, Pairer, Record, open_image
from taid_vlm.data.pairing import MismatchedAnswerError, Side
from taid_vlm.data.pictures import Picture
from taid_vlm.data.text import blocks
from taid_vlm.preview.schema import Bin, Dropped, Figures, SideFigures

BINS = 16  # at most, of the histogram
EXAMPLE = 400  # characters of a message that are kept

Progress = Callable[[int, int], None]


class Openable:
    """Whether pictures can be decoded; each is tried once."""

    def __init__(self) -> None:
        self._fine: set[Picture] = set()
        self._broken: dict[Picture, BadSampleError] = {}

    def check(self, pictures: Iterable[Picture]) -> None:
        """Raise :class:`BadSampleError` for the first that cannot."""
        for picture in pictures:
            if picture in self._broken:
                raise self._broken[picture]
            if picture not in self._fine:
                try:
                    open_image(picture)
                except BadSampleError as error:
                    self._broken[picture] = error.with_traceback(None)
                    raise
                self._fine.add(picture)


class Measure:
    """Goes through records as training would, and keeps lengths and reasons, not the records.

    Attributes:
        samples: looked at so far. mismatches: messages of those whose answers differ between the models.
    """

    def __init__(self, pairer: Pairer) -> None:
        self.pairer, self.openable = pairer, Openable()
        self.samples = 0
        self.mismatches: list[str] = []
        self._dropped: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._lengths: dict[str, list[int]] = {}
        self._answers: Counter[str] = Counter()
        self._usable = self._trimmed = 0

    def usable(self, record: Record) -> Iterator[tuple[Pair, bool]]:
        """The usable samples of a record, and whether each was trimmed; the others are counted.

        What :class:`Screening` does, but that it decodes pictures too, and stops at nothing.
        """
        for sample in blocks(record, self.pairer.models, self.pairer.max_length):
            self.samples += 1
            before = self.pairer.trimmed
            try:
                pair = self.pairer.pair(sample)
                self.openable.check(pair.images)
            except BadSampleError as error:
                self._drop(error)
            else:
                yield pair, self.pairer.trimmed > before

    def add(self, records: Sequence[Record], progress: Progress) -> None:
        """Look at all records."""
        for done, record in enumerate(records, 1):
            for pair, trimmed in self.usable(record):
                self._usable += 1
                self._trimmed += trimmed
                self._count("student", pair.student)
                if pair.teacher is not None:
                    self._count("teacher", pair.teacher)
            progress(done, len(records))

    def figures(self, records: int, measured: int) -> Figures:
        """What was found, in ``measured`` of ``records`` records."""
        return Figures(
            records=records,
            measured=measured,
            samples=self.samples,
            usable=self._usable,
            trimmed=self._trimmed,
            limit=self.pairer.max_length,
            dropped=tuple(Dropped(name, n, self._examples[name]) for name, n in self._dropped.most_common()),
            sides=tuple(_side(name, lengths, self._answers[name]) for name, lengths in self._lengths.items()),
            histogram=histogram(self._lengths),
        )

    def _drop(self, error: BadSampleError) -> None:
        self._dropped[error.reason] += 1
        self._examples.setdefault(error.reason, _cut(str(error)))
        if isinstance(error, MismatchedAnswerError):
            self.mismatches.append(_cut(str(error)))

    def _count(self, name: str, side: Side) -> None:
        self._lengths.setdefault(name, []).append(len(side.ids))
        self._answers[name] += len(side.rows)


def histogram(lengths: dict[str, list[int]]) -> tuple[Bin, ...]:
    """Bins as wide as 1, 2 or 5 times a power of ten, so wide that at most ``BINS`` reach from the shortest to the longest."""
    every = [length for some in lengths.values() for length in some]
    if not every:
        return ()
    width = next(w for w in _widths() if max(every) // w - min(every) // w < BINS)
    counts = {name: Counter(length // width for length in some) for name, some in lengths.items()}
    return tuple(
        Bin(i * width, (i + 1) * width - 1, {name: counted[i] for name, counted in counts.items()})
        for i in range(min(every) // width, max(every) // width + 1)
    )


def _widths() -> Iterable[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _side(name: str, lengths: list[int], answers: int) -> SideFigures:
    ordered = sorted(lengths)
    p95 = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
    return SideFigures(name, sum(lengths), answers, round(median(lengths)), p95, ordered[-1])


def _cut(message: str) -> str:
    return message if len(message) <= EXAMPLE else message[:EXAMPLE] + " ..."
