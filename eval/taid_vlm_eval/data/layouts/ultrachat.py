"""UltraChat 200k: the last reply of a conversation is what is asked for, all before it is given."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

TAKEN = 2000
REPLY, WHOLE = 2048, 8192  # characters, some four to a token


@LAYOUTS.register("ultrachat")
def ultrachat(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``number`` of the row, ``question``, ``answer`` and ``earlier``, pairs of a question and its reply.

    Of the conversations that end in a reply of at most 2,048 characters and have at most 8,192 in all, the 2,000 whose text has the
    smallest SHA-256 are taken, so the choice depends on the data alone. (TAID's code limits tokens of its teacher's tokenizer to 512
    and 2,048, and draws 2,000 at random.)
    """
    chosen = heapq.nsmallest(TAKEN, _fitting(rows))
    for _, number, found in sorted(chosen, key=lambda one: one[1]):
        yield {"number": number, **found}


def _fitting(rows: Iterable[Row]) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    for number, row in enumerate(rows):
        messages = [(one["role"], one["content"] or "") for one in row["messages"] or ()]
        texts = [text for _, text in messages]
        roles = [role for role, _ in messages]
        pairs = [*zip(texts[::2], texts[1::2], strict=False)]
        sound = roles == ["user", "assistant"] * len(pairs) and pairs and all(map(str.strip, texts))
        if not sound or len(texts[-1]) > REPLY or sum(map(len, texts)) > WHOLE:
            continue
        digest = hashlib.sha256("\0".join(texts).encode(errors="surrogatepass")).digest()
        question, answer = pairs[-1]
        yield digest, number, {"question": question, "answer": answer, "earlier": [list(pair) for pair in pairs[:-1]]}
