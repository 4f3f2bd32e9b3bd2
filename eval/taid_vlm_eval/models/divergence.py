"""How far a model is from a teacher along true answers: both read the same answer, each behind its own prompt.

Shapes: n tokens of an answer, V vocabulary.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.likelihood import AnswerRows
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.said import Said

ROWS = 512  # tokens of answers whose logits are held at a time, of each of the two models in its own precision
CHUNK = 64  # of them in fp32


class Divergence:
    """Measures the sums over the tokens of ``texts[0]``, the true answer; see :mod:`taid_vlm_eval.metrics.divergence`.

    The answer's tokens are those of its text alone, without the token that ends a turn, and must be the same for both. Both
    distributions are over the longest range of ids, from 0, that mean the same tokens.

    Raises:
        UserError: no teacher, a model that gives no logits, or tokenizers that differ.
    """

    def __init__(self, model: Any, teacher: Any | None) -> None:
        if teacher is None:
            raise UserError("a divergence is measured to a teacher, and there is none; name one with --teacher")
        for one in (model, teacher):
            if not isinstance(one, AnswerRows):
                raise UserError(
                    f"{one.name} gives no logits, so no divergence can be measured; it must be a checkpoint here"
                )
        self._model, self._teacher = model, teacher
        self._shared = shared_prefix(model.tokenizer, teacher.tokenizer)

    @property
    def stated(self) -> dict[str, str | int]:
        """What a result says beside the model's own description."""
        return {"teacher": json.dumps(self._teacher.describe(), sort_keys=True)}

    def said(self, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
        """The sums of each request as JSON; nothing is generated."""
        said: list[Said] = [""] * len(requests)
        answers: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            ids, theirs = (
                one.tokenizer.encode(request.texts[0], add_special_tokens=False) for one in (self._model, self._teacher)
            )
            if not ids or list(ids) != list(theirs) or max(ids) >= self._shared:
                reason = (
                    "teacher and model cut this answer into different tokens" if ids else "the answer has no tokens"
                )
                said[place] = AnswerFault(reason, lasting=True)
            else:
                answers[place] = list(ids)
        for group in _groups(answers):
            asked = [replace(requests[place], texts=()) for place in group]
            wanted = [answers[place] for place in group]
            pairs = zip(self._model.answer_rows(asked, wanted), self._teacher.answer_rows(asked, wanted), strict=True)
            for place, (ours_nV, theirs_nV) in zip(group, pairs, strict=True):
                said[place] = _as_json(sums_of(ours_nV, theirs_nV, answers[place], self._shared))
        return said


def _groups(answers: dict[int, list[int]]) -> list[list[int]]:
    groups: list[list[int]] = []
    rows = 0
    for place, ids in answers.items():
        if not groups or rows + len(ids) > ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(place)
        rows += len(ids)
    return groups


def _as_json(sums: dict[str, float]) -> Said:
    if not all(map(math.isfinite, sums.values())):
        return AnswerFault("the divergence is not a finite number", lasting=True)
    return json.dumps(sums)


@torch.inference_mode()
def sums_of(ours_nV: Tensor, theirs_nV: Tensor, answer: Sequence[int], shared: int) -> dict[str, float]:
    """Sums over the answer's tokens, with the distributions over the first ``shared`` ids, in fp32.

    With p the teacher's and q the model's: KL(p || q), KL(q || p), at how many tokens both have the same likeliest one, and
    the two cross-entropies to the answer.
    """
    width = min(shared, ours_nV.shape[1], theirs_nV.shape[1])
    names = ("kl", "reverse_kl", "agreement", "cross_entropy", "teacher_cross_entropy")
    totals = dict.fromkeys(names, 0.0)
    for start in range(0, len(answer), CHUNK):
        part = slice(start, start + CHUNK)
        labels_n1 = torch.tensor(answer[part], device=ours_nV.device).unsqueeze(1)
        log_q = torch.log_softmax(ours_nV[part, :width], dim=-1, dtype=torch.float32)
        log_p = torch.log_softmax(theirs_nV[part, :width].to(ours_nV.device), dim=-1, dtype=torch.float32)
        found = (
            _expected_gap(log_p, log_q),
            _expected_gap(log_q, log_p),
            (log_p.argmax(dim=-1) == log_q.argmax(dim=-1)).sum(),
            -log_q.gather(1, labels_n1).sum(),
            -log_p.gather(1, labels_n1).sum(),
        )
        for name, value in zip(names, found, strict=True):
            totals[name] += value.item()
    return {"tokens": len(answer), **totals}


def _expected_gap(log_p: Tensor, log_q: Tensor) -> Tensor:
    # Where p is 0, its share is 0, also where q is 0 as well.
    share = log_p.exp() * (log_p - log_q)
    return torch.where(log_p.isneginf(), 0.0, share).sum(dtype=torch.float64)


def shared_prefix(first: Any, second: Any) -> int:
    """How many ids, from 0, mean the same token in both tokenizers.

    Raises:
        UserError: fewer than nine in ten of the smaller one.
    """
    ours, theirs = _tokens_by_id(first), _tokens_by_id(second)
    pairs = zip_longest(ours, theirs)
    count = next((place for place, (a, b) in enumerate(pairs) if a is None or a != b), len(ours))
    if count < 0.9 * min(len(ours), len(theirs)):
        raise UserError(
            f"teacher and model have different tokenizers: only the first {count} of {min(len(ours), len(theirs))} ids agree. A "
            f"divergence per token needs a shared vocabulary; choose a teacher of the same family"
        )
    return count


def _tokens_by_id(tokenizer: Any) -> list[str | None]:
    vocabulary = tokenizer.get_vocab()
    table: list[str | None] = [None] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        table[index] = token
    return table
