"""Ask a model every item of a task that has no answer yet: batches, broken images, and memory that runs out."""

import gc
import sys
import time
from collections.abc import Callable, Sequence

from taid_vlm.common.errors import UserError
from taid_vlm_eval.answers import Answer, AnswersFile
from taid_vlm_eval.data.item import Item, open_images
from taid_vlm_eval.data.pictures import BrokenImageError
from taid_vlm_eval.models.protocol import Model, Request
from taid_vlm_eval.task import Task

Progress = Callable[[str, int, int], None]  # (task, items done, items in all)


def prompt_of(item: Item, task: Task) -> str:
    """What the model reads, before its own chat template."""
    return task.prompt.prefix + item.question + task.prompt.suffix


def answer_items(
    model: Model,
    items: Sequence[Item],
    task: Task,
    file: AnswersFile,
    batch_size: int,
    progress: Progress | None = None,
) -> tuple[int, float]:
    """Answer what ``file`` lacks.

    Items are ordered by number of images and length of the prompt, so that little is padded. Batches are cut from all
    items, not from those that are left, and a batch with any gap is asked whole: so a resumed run meets the same batches as
    one that was never killed, and cannot differ from it by rounding. When memory runs out, the batch is halved and stays so.

    Returns:
        How many items were answered here (items that could not be asked do not count), and the seconds it took.

    Raises:
        UserError: no memory even for one item.
    """
    order = sorted(items, key=lambda item: (len(item.images), len(prompt_of(item, task))))
    started, answered, start = time.perf_counter(), 0, 0
    if progress is not None:
        progress(task.name, len(file.done), len(items))
    while start < len(order):
        batch = order[start : start + batch_size]
        missing = sum(item.id not in file.done for item in batch)
        if missing:
            answers = _answer_batch(model, batch, task)
            if answers is None:
                batch_size = _smaller(batch_size, len(batch), batch[0], task)
                continue
            answered += sum(one["error"] is None and one["id"] not in file.done for one in answers)
            file.append(answers)
            if progress is not None:
                progress(task.name, len(file.done), len(items))
        start += len(batch)
    return answered, time.perf_counter() - started


def _answer_batch(model: Model, batch: Sequence[Item], task: Task) -> list[Answer] | None:
    """None when memory ran out. Whole frames of tensors hang on the exception, so it ends here."""
    answers: list[Answer] = []
    asked: list[Item] = []
    requests = []
    for item in batch:
        try:
            requests.append(Request(prompt_of(item, task), open_images(item)))
            asked.append(item)
        except BrokenImageError as error:
            answers.append(Answer(id=item.id, answer="", error=str(error)))
    try:
        texts = model.generate(requests, task.generation.max_new_tokens) if requests else []
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    if len(texts) != len(requests):
        raise RuntimeError(f"model {model.name!r} gave {len(texts)} answers to {len(requests)} requests")
    return answers + [Answer(id=item.id, answer=text, error=None) for item, text in zip(asked, texts, strict=True)]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an accelerator or torch's CPU allocator ran out of memory (``torch.OutOfMemoryError`` is a RuntimeError)."""
    text = str(error).lower()
    return "out of memory" in text or "defaultcpuallocator" in text or type(error).__name__ == "OutOfMemoryError"


def _smaller(batch_size: int, tried: int, item: Item, task: Task) -> int:
    if tried == 1:
        raise UserError(
            f"task {task.name!r}: out of memory with the single item {item.id!r}; use a device with more memory, a smaller "
            f"precision, or fewer max_new_tokens ({task.generation.max_new_tokens})"
        )
    gc.collect()
    # Only a process that loaded torch has a cache of its to empty.
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return min(batch_size, tried) // 2
