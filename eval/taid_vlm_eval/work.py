"""The queue that all processes take batches from: there is no list of who does what, only claims that end with their owner."""

from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.batching import Batches


class Work:
    """Batches that lack answers. Claims are of stretches of the order from which all processes cut batches, each of its own size.

    Args:
        file: holds the answers, and the claims of all processes.
        batches: of this process; only their size may be another one in other processes.
    """

    def __init__(self, file: AnswersFile, batches: Batches) -> None:
        self._file, self._batches = file, batches
        self._next = 0
        self._mine: set[int] = set()

    def take(self) -> int | None:
        """The number of a batch that lacks answers, now claimed; None when others have all of them, or none is left."""
        self._file.refresh()
        for step in range(len(self._batches)):
            number = (self._next + step) % len(self._batches)
            if number in self._mine or not self._is_open(number):
                continue
            if not self._file.claim(self._batches.stretch(number)):
                continue
            # Its owner may have answered it just before the claim was given back.
            self._file.refresh()
            if self._is_open(number):
                self._mine.add(number)
                self._next = number + 1
                return number
            self._file.release(self._batches.stretch(number))
        return None

    def _is_open(self, number: int) -> bool:
        return bool(self._file.lacking[self._batches[number]].any())

    def places(self, number: int) -> Integers:
        """The places of the items of a batch that lack answers."""
        places_n = self._batches[number]
        lacking_n: Integers = places_n[self._file.lacking[places_n]]
        return lacking_n

    def release(self, number: int) -> None:
        """Give back a batch that was answered."""
        self._mine.discard(number)
        self._file.release(self._batches.stretch(number))

    def is_done(self) -> bool:
        """Whether all items have an answer."""
        self._file.refresh()
        return not self._file.lacking.any()
