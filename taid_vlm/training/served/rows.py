"""From the prompt log-probabilities of a vLLM server to the K most likely tokens at answer rows."""

import math
from typing import Any

from taid_vlm.common.errors import UserError

Known = tuple[list[int], list[float]]  # K token ids, the likeliest first, and their log-probabilities


def rows_of(answer: Any, ids: list[int], rows: list[int], k: int) -> list[Known]:
    """The k most likely tokens at some rows of a prompt.

    Entry i of the server's list is the distribution of token i given those before it; entry 0 is null, for nothing is
    before. A row of ours is the place of the last token that is seen, whose NEXT token is supervised: row r takes entry
    r + 1. Beyond K an entry has the prompt's own token where that is not among them; it is left out.

    Args:
        answer: of ``/v1/completions``. ids: the prompt as it was sent. rows: places in it, each below len(ids) - 1.

    Raises:
        UserError: the answer is not what vLLM sends, is about another prompt, or knows fewer than k tokens of a row.
    """
    entries = _entries(answer, ids)
    return [_top(entries[row + 1], k, row) for row in rows]


def _entries(answer: Any, ids: list[int]) -> list[Any]:
    """The list of the answer, seen to be about these ids."""
    try:
        choice = answer["choices"][0]
        entries, returned = choice["prompt_logprobs"], choice.get("prompt_token_ids")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{_HEAD} no choices[0].prompt_logprobs, found {_told(answer)}; {_NEEDS}") from error
    if not isinstance(entries, list):
        raise UserError(f"{_HEAD} {_told(entries)} for choices[0].prompt_logprobs, expected a list; {_NEEDS}")
    if len(entries) != len(ids):
        raise UserError(
            f"{_HEAD} log-probabilities of {len(entries)} tokens, {len(ids)} were sent: it adds or cuts off tokens, so rows "
            f"cannot be matched; see that no proxy rewrites prompts, and that its --max-model-len holds data.max_length tokens"
        )
    if returned is not None and list(returned) != ids:
        raise UserError(f"{_HEAD} other token ids than were sent; see that no proxy rewrites prompts")
    for place, (entry, token) in enumerate(zip(entries, ids, strict=True)):
        if place and (not isinstance(entry, dict) or str(token) not in entry):
            raise UserError(
                f"{_HEAD} an entry {place} without token {token}, which was sent there ({_told(entry)}): it is about other "
                f"token ids, or is no answer of vLLM; {_NEEDS}"
            )
    return entries


def _top(entry: dict[str, Any], k: int, row: int) -> Known:
    try:
        found = [(float(value["logprob"]), int(token)) for token, value in entry.items()]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_HEAD} an entry {row + 1} that is not token ids with a logprob ({_told(entry)})") from error
    if len(found) < k:
        raise UserError(
            f"{_HEAD} {len(found)} tokens for a row, teacher.top_k asks for {k}: start it with --max-logprobs {k}, or lower top_k"
        )
    broken = [token for value, token in found if math.isnan(value) or value > 1e-3]
    if broken:
        raise UserError(f"{_HEAD} a logprob of token {broken[0]} that is no log-probability ({_told(entry)})")
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    return [token for _, token in found[:k]], [value for value, _ in found[:k]]


_HEAD = "the server of the teacher returned"
_NEEDS = "teacher.url must be that of a vLLM server that knows prompt_logprobs"


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + " ..."
