"""Models around a model, for each way of asking (:mod:`taid_vlm_eval.ways`); what they answer is text for a scorer."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.protocol import Likelihood, Measuring, Model, Request, Scoring
from taid_vlm_eval.models.said import Said

Say = Callable[[Sequence[Request], int], list[Said]]  # (requests, max_new_tokens) -> one answer each


class Asked:
    """A model that answers by ``say``; its name is that of ``model``, and so is its description, with what is ``stated`` beside."""

    def __init__(self, model: Model, say: Say, stated: Mapping[str, str | int] | None = None) -> None:
        self.name = model.name
        self._model, self._say, self._stated = model, say, dict(stated or {})
        if isinstance(model, Measuring):
            self.picture_tokens = model.picture_tokens

    def describe(self) -> dict[str, str | int]:
        return {**self._model.describe(), **self._stated}

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
        return self._say(requests, max_new_tokens)


def asked(model: Model, way: str, teacher: Model | None = None) -> Model:
    """The model that answers as ``way`` asks.

    Raises:
        UserError: the model cannot give likelihoods, or there is no teacher, where they are needed.
    """
    if way == "answer":
        return model
    if way == "turns":
        return Asked(model, partial(turns, model))
    if way == "divergence":
        from taid_vlm_eval.models.divergence import Divergence

        measured = Divergence(model, teacher)
        return Asked(model, measured.said, measured.stated)
    if not isinstance(model, Scoring):
        raise UserError(
            f"{model.name} cannot tell how likely a text is, as tasks that ask for {way} by likelihood need; evaluate a checkpoint "
            f"here, or choose a task that generates its answers"
        )
    return Asked(model, partial({"letters": letters, "options": options, "continuation": continuation}[way], model))


def letters(model: Any, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
    """Says the letter in ``texts`` that is likeliest to begin the answer, with or without a space before it.

    The two spellings are added up: which of them a model writes depends on how its template opens an answer. In a plain request
    only the one with a space is text that goes on. A request without ``texts`` is answered as ever.
    """
    said: list[Said] = [""] * len(requests)
    weighed = [place for place, request in enumerate(requests) if request.texts]
    others = [place for place, request in enumerate(requests) if not request.texts]
    if weighed:
        chosen = [requests[place] for place in weighed]
        spellings = [[text for one in request.texts for text in _spellings(one, request)] for request in chosen]
        values = model.log_likelihoods([_to_the_answer(request) for request in chosen], spellings)
        for place, request, several in zip(weighed, chosen, values, strict=True):
            said[place] = _likeliest(request, several)
    if others:
        rest = model.generate([requests[place] for place in others], max_new_tokens)
        for place, answer in zip(others, rest, strict=True):
            said[place] = answer
    return said


def _spellings(letter: str, request: Request) -> list[str]:
    return [f" {letter}"] if request.plain else [letter, f" {letter}"]


def _to_the_answer(request: Request) -> Request:
    # A space at the end of what an answer begins with belongs to the letter.
    return replace(request, answer_start=request.answer_start.rstrip())


def _likeliest(request: Request, values: Sequence[Likelihood]) -> Said:
    each = len(values) // len(request.texts)
    totals = [
        _log_sum([one.log_probability for one in values[start : start + each]]) for start in range(0, len(values), each)
    ]
    if any(math.isnan(one) for one in totals):
        return AnswerFault("the model's likelihoods are not numbers", lasting=True)
    return request.texts[totals.index(max(totals))]


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    if not math.isfinite(highest):
        return highest
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def options(model: Any, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
    """Says the log-likelihoods of ``texts`` and their numbers of tokens, as JSON; in a plain request with a space before each."""
    texts = [[f" {text}" if request.plain else text for text in request.texts] for request in requests]
    values = model.log_likelihoods(requests, texts)
    return [_as_json(several) for several in values]


def continuation(model: Any, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
    """Says the log-likelihood of ``texts[0]``, its number of tokens and whether greedy decoding writes it, as JSON; in a plain request
    with a space before it."""
    texts = [[f" {request.texts[0]}" if request.plain else request.texts[0]] for request in requests]
    return [_continued(one) for (one,) in model.log_likelihoods(requests, texts)]


def _continued(value: Likelihood) -> Said:
    if math.isnan(value.log_probability):
        return AnswerFault("the model's likelihoods are not numbers", lasting=True)
    found = {"log_likelihood": max(value.log_probability, -1e308), "tokens": value.tokens, "greedy": value.greedy}
    return json.dumps(found)


def _as_json(values: Sequence[Likelihood]) -> Said:
    if not values or any(math.isnan(one.log_probability) for one in values):
        reason = "the model's likelihoods are not numbers" if values else "the item has no options"
        return AnswerFault(reason, lasting=True)
    # JSON knows no infinity; what is impossible is as far down as a float goes.
    numbers = [max(one.log_probability, -1e308) for one in values]
    return json.dumps({"log_likelihoods": numbers, "tokens": [one.tokens for one in values]})


def turns(model: Any, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
    """Says all answers of a conversation as a JSON list: to the prompt, then to each of ``texts``, each behind what went before."""
    given: list[list[str]] = [[] for _ in requests]
    faults: dict[int, AnswerFault] = {}
    now = {place: replace(request, texts=()) for place, request in enumerate(requests)}
    while now:
        answers = model.generate(list(now.values()), max_new_tokens)
        later = {}
        for (place, request), answer in zip(now.items(), answers, strict=True):
            if isinstance(answer, AnswerFault):
                faults[place] = answer
                continue
            given[place].append(answer)
            rest = requests[place].texts[len(given[place]) - 1 :]
            if rest:
                so_far = (*request.earlier, (request.prompt, answer))
                later[place] = replace(request, prompt=rest[0], earlier=so_far, layout=())
        now = later
    return [faults.get(place, json.dumps(one, ensure_ascii=False)) for place, one in enumerate(given)]
