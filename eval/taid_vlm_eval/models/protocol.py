"""What the runner asks of a model.

:class:`Model` is all that is needed. The other protocols are for models that can do more, and the runner finds out by
``isinstance``: prepare the next batch while one is answered, hand out answers one by one, tell how long pictures become, or give
likelihoods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from taid_vlm_eval.models.faults import AnswerFault


@dataclass(frozen=True)
class Request:
    """One question as the model reads it; ``images`` (RGB) come before the text, but for a ``layout``.

    Attributes:
        keys: one for each image where known, else empty; images with equal keys have equal pixels, so a model may encode
            such an image once for all questions about it.
        earlier: turns before this one: what was asked, and what the model answered. The images belong to the first turn.
        max_tiles: upper limit of tiles for each image, where the model cuts images into tiles; None leaves the checkpoint's own.
        layout: where the images stand in the text: texts and places in ``images``, in the order they are read. Empty: all images,
            then ``prompt``, which is the texts of the layout put together where there is one.
        answer_start: what the answer begins with; the model goes on from there, and its answer is what follows.
        texts: what else the way of asking needs (:mod:`taid_vlm_eval.ways`): options to weigh, later turns, an answer to measure.
        plain: the prompt stands as it is, outside any chat template, and is text to go on from; for checkpoints that run here.
        ids: tokens of a plain prompt, in the place of its text.
        stops: the answer ends before the first of these texts.
    """

    prompt: str
    images: list[Image.Image] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    earlier: tuple[tuple[str, str], ...] = ()
    max_tiles: int | None = None
    layout: tuple[str | int, ...] = ()
    answer_start: str = ""
    texts: tuple[str, ...] = ()
    plain: bool = False
    ids: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()

    def parts(self) -> tuple[str | int, ...]:
        """Texts and places in ``images``, in the order that the model reads them."""
        return self.layout or (*range(len(self.images)), self.prompt)


class Model(Protocol):
    """Anything that answers questions. The adapter applies the model's own chat template."""

    name: str

    def describe(self) -> dict[str, str | int]:
        """What identifies the model in a result. Equal descriptions must mean equal answers: a killed run is resumed
        only by a model of the same description."""
        ...

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> Sequence[str | AnswerFault]:
        """Greedy answers without the prompt, one per request, in order; or why there is none, see :class:`AnswerFault`.

        An answer may not depend on what else is in the batch. Running out of memory is raised as torch does it; the
        caller comes back with a smaller batch.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """A model whose ``generate`` is ``answer(prepare(...))``, of which the first half can be done ahead."""

    def prepare(self, requests: Sequence[Request]) -> Any:
        """Template, tokens and pixels of a batch, on the CPU. Called from other threads than ``answer``, several at once."""
        ...

    def answer(self, prepared: Any, max_new_tokens: int) -> list[str]:
        """As :meth:`Model.generate`, of what ``prepare`` returned."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A model whose answers come one by one, so that those that are there are kept while the others are waited for."""

    def answers_as_they_come(
        self, requests: Sequence[Request], max_new_tokens: int
    ) -> Iterator[tuple[int, str | AnswerFault]]:
        """As :meth:`Model.generate`, in the order in which answers come, each behind the place of its request."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A model that tells the length of an image without reading its pixels, so that like lengths share a batch."""

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """Tokens that an image of so many pixels becomes."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """Of one continuation of a prompt: the sum of its tokens' log-probabilities (natural logarithm), how many they are, and whether
    each is the likeliest where it stands, so that greedy decoding writes the continuation."""

    log_probability: float
    tokens: int
    greedy: bool = False


@runtime_checkable
class Scoring(Protocol):
    """A model that tells how likely given continuations are."""

    def log_likelihoods(
        self, requests: Sequence[Request], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """For each request, one value per continuation, in order, each by teacher forcing in fp32 from the logits on."""
        ...
