"""The answer in what a model wrote."""

from collections.abc import Sequence

from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.protocol import Request

Said = str | AnswerFault  # an answer, or why there is none


def as_said(request: Request, text: str) -> str:
    """The answer in what a model wrote: up to the first stop, and without white space around it but for a plain prompt."""
    said = before_stops(text, request.stops)
    return said if request.plain else said.strip()


def before_stops(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops."""
    for stop in stops:
        text = text.split(stop)[0] if stop else text
    return text
