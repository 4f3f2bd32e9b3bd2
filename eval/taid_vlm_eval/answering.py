"""Ask a model every item of a task that has no answer yet, together with any number of other processes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.batching import make_batches
from taid_vlm_eval.data import Item, ItemTable
from taid_vlm_eval.models.protocol import Model
from taid_vlm_eval.pieces import Asker, Loaded, load
from taid_vlm_eval.prefetch import ahead
from taid_vlm_eval.task import Task
from taid_vlm_eval.work import Work

WORKERS = 2
_SHORTEST_WAIT, _LONGEST_WAIT = 0.02, 1.0  # seconds


@dataclass(frozen=True)
class Standing:
    """How far a task is: items ``done`` (with an answer, or a reason for none) of ``total``; ``errors`` of them have none."""

    task: str
    done: int
    total: int
    errors: int


Progress = Callable[[str, int, int], None]  # (task, items done, items in all)
Watch = Callable[[Standing], None]


@dataclass(frozen=True)
class Running:
    """How items are put to a model; nothing of it changes which answers are asked for.

    Attributes:
        batch_size: items asked at a time.
        workers: threads that open pictures and prepare batches ahead, and how many batches they may be ahead; with 0 that is
            done when a batch is asked.
        finish: wait until what other processes have taken is answered as well, or answer it when they die. Otherwise stop when
            nothing is left to take.
        watch: called before the first batch, after each, and while others are waited for.
    """

    batch_size: int = 32
    workers: int = WORKERS
    finish: bool = True
    watch: Watch = lambda standing: None


def answer_items(
    model: Model, items: Sequence[Item], task: Task, file: AnswersFile, running: Running
) -> tuple[int, float]:
    """Answer what ``file`` lacks, batch by batch (:func:`make_batches`), each taken from what no other process has (:class:`Work`).

    What has an answer is not asked again. The answers to a batch are written all at once or not at all, so a resumed run meets the
    batches of one that was never killed, and cannot differ from it by rounding; but where memory runs out, this process asks the same
    batches in pieces of half the size from then on, and answers that come one by one (:class:`Streaming`) are written so.

    Returns:
        How many items were answered meanwhile, by all processes (items that could not be asked do not count), and the seconds.

    Raises:
        UserError: no memory even for one item; the answers cannot be written.
    """
    table = ItemTable.of(items)
    started, before, wait = time.perf_counter(), file.answered, _SHORTEST_WAIT

    def tell() -> None:
        running.watch(Standing(task.name, len(table) - int(file.lacking.sum()), len(table), file.errors))

    tell()
    work = Work(file, make_batches(table, task, model, running.batch_size))
    asker = Asker(model, task)

    def opened(number: int) -> Loaded:
        return load(table, work.places(number), model, task, asker.size)

    with ahead(opened, running.workers) as loaded:
        while True:
            while loaded.has_room and (number := work.take()) is not None:
                loaded.put(number)
            if len(loaded):
                number, batch = loaded.take()
                for answers in asker.ask(batch):
                    file.append(answers)
                work.release(number)
                wait = _SHORTEST_WAIT
            elif not running.finish or work.is_done():
                break
            else:
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            tell()
    return file.answered - before, time.perf_counter() - started
