"""Requests of another harness put to a model in batches: the next is prepared while one is answered, halved where memory runs out."""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from taid_vlm.common.errors import UserError
from taid_vlm.common.telling import tell
from taid_vlm_eval.bridges.wanted import Wanted
from taid_vlm_eval.memory import unless_out_of_memory
from taid_vlm_eval.models.likelihood import AnswerRows, sharing_a_row, values_of
from taid_vlm_eval.models.protocol import Model, Request
from taid_vlm_eval.pieces import Asker, Loaded, Piece, prepare
from taid_vlm_eval.prefetch import ahead


def answers(
    model: Model, count: int, request_of: Callable[[int], Request], wanted: Wanted, batch_size: int, what: str
) -> list[str]:
    """Answers to ``count`` requests, in order.

    Args:
        request_of: makes a request of its number; called in another thread, once for each number, in order.
        what: is asked, for messages.

    Raises:
        UserError: no memory even for one request.
    """
    task: Any = SimpleNamespace(name=what, generation=SimpleNamespace(max_new_tokens=wanted.max_new_tokens))
    asker = Asker(model, task)
    starts = list(range(0, count, batch_size))[::-1]

    def load(start: int) -> Loaded:
        numbers = range(start, min(start + batch_size, count))
        piece = Piece([str(number) for number in numbers], [request_of(number) for number in numbers])
        prepare(piece, model)
        return Loaded([], [piece])

    found: dict[int, str] = {}
    faults: list[str] = []
    with ahead(load, 1) as loaded, tqdm(total=count, desc=what) as bar:
        while starts or len(loaded):
            while starts and loaded.has_room:
                loaded.put(starts.pop())
            for several in asker.ask(loaded.take()[1]):
                found |= {int(one["id"]): one["answer"] for one in several}
                faults += [one["error"] for one in several if one["error"]]
                bar.update(len(several))
    if faults:
        tell(f"{what}: {len(faults)} of {count} have no answer, the first because {faults[0]}")
    return [found[number] for number in range(count)]


def likelihoods(
    model: AnswerRows, requests: Sequence[Request], continuations: Sequence[Sequence[int]], batch_size: int, what: str
) -> list[tuple[float, bool]]:
    """For each request the log-likelihood of its continuation, and whether greedy decoding writes it.

    Plain requests of equal ``ids`` whose continuations differ in the last token alone share a forward pass. The longest come first.

    Raises:
        UserError: no memory even for one request.
    """
    found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
    groups = sharing_a_row([request.ids or place for place, request in enumerate(requests)], continuations)
    groups.sort(key=lambda places: -_length(requests[places[0]], continuations[places[0]]))
    with tqdm(total=len(requests), desc=what) as bar:
        done = 0
        while done < len(groups):
            part = groups[done : done + batch_size]
            asked, ids = [requests[one[0]] for one in part], [continuations[one[0]] for one in part]
            several = unless_out_of_memory(partial(model.answer_rows, asked, ids))
            if several is None:
                if len(part) == 1:
                    raise UserError(f"{what}: out of memory with a single request; use a device with more memory")
                batch_size = len(part) // 2
                continue
            for places, logits_nV in zip(part, several, strict=True):
                values = values_of(logits_nV, [continuations[one] for one in places])
                for place, value in zip(places, values, strict=True):
                    found[place] = (value.log_probability, value.greedy)
                bar.update(len(places))
            done += len(part)
    return found


def _length(request: Request, ids: Sequence[int]) -> int:
    return len(request.ids) + len(request.prompt) + len(ids)
