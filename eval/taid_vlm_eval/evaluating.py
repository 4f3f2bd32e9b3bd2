"""The Python interface: one call that opens, asks, scores and returns."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.answering import WORKERS
from taid_vlm_eval.judges import open_judge
from taid_vlm_eval.models import OpenOptions
from taid_vlm_eval.models.given import opened
from taid_vlm_eval.planned import plan_call
from taid_vlm_eval.processes import place_of
from taid_vlm_eval.progress import shown
from taid_vlm_eval.protocols import DEFAULT
from taid_vlm_eval.results import Results
from taid_vlm_eval.runner import answers_only
from taid_vlm_eval.runner import evaluate as run_tasks
from taid_vlm_eval.suites import Wanted

if TYPE_CHECKING:
    from taid_vlm_eval.models.given import Given


def evaluate(
    model: "Given",
    tasks: Wanted | Sequence[Wanted],
    *,
    processor: Any | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = WORKERS,
    output: str | Path | None = None,
    tasks_folders: Sequence[str | Path] = (),
    protocol: str = DEFAULT,
    family: str | None = None,
    letters: str = "generated",
    teacher: "Given | None" = None,
    judge: str = "rule",
    adapter: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    timeout: float = 120.0,
    key_variable: str = "OPENAI_API_KEY",
    judge_key_variable: str = "OPENAI_API_KEY",
    quiet: bool = False,
) -> Results:
    """Ask a model the items of tasks and score its answers: what ``taid-vlm eval`` does, from Python.

    >>> results = evaluate("runs/taid/student", ["easy_vqa", "chatterbot"], limit=100)  # doctest: +SKIP
    >>> print(results["easy_vqa"].value, results["easy_vqa"].low, results["easy_vqa"].high)  # doctest: +SKIP

    A task that cannot be run (its data is not here, only a judge could score it) does not stop the others: ``results.not_run`` says
    why. A live model stays on its device, and weights, modes and random states are as before afterwards.

    Args:
        model: folder of a student or of a transformers checkpoint, a hub id, ``openai:MODEL@URL`` or ``vllm:PATH``; what
            :func:`taid_vlm_eval.open_model` or ``taid_vlm.load_student`` returns, or any object with ``name``, ``describe()`` and
            ``generate(requests, max_new_tokens)``; or a model of transformers, with its ``processor``.
        tasks: names of tasks or suites, paths of YAML files, or what :func:`taid_vlm_eval.load_task` returns; one or several.
        processor: of a model of transformers that is handed over itself: its processor, or the tokenizer of a language model.
        limit: at most so many items of each task, chosen by ``seed``.
        seed: of the choice of items and of the error bars.
        batch_size: items asked at a time; halved when memory runs out.
        workers: threads that open pictures and prepare batches ahead.
        output: folder for answers and results, with which the same call goes on where a killed one stopped; without, nothing is
            left on disk. Answers of a live model of transformers are never taken over by another call.
        tasks_folders: more folders of task files.
        protocol, family: how tasks are asked and read, see docs/protocols.md.
        letters: of options: ``generated``, or by ``likelihood``, one forward pass an item.
        teacher: from which tasks such as ``kl_chatterbot`` measure the divergence; all that ``model`` may be but a model of
            transformers itself.
        judge: reads answers that no rule can: ``rule`` (none), ``openai:MODEL@URL`` or ``local:PATH``.
        adapter, device, dtype, trust_remote_code: how models are opened by their names, see :func:`taid_vlm_eval.open_model`.
        timeout: seconds a server may take for an answer.
        key_variable, judge_key_variable: environment variables with the keys of servers.
        quiet: draw no bar, and say nothing on standard error.

    Returns:
        The results by the names of tasks, in their order, each with a 95 % interval; shares are from 0 to 1, points as the metric has
        them (``top`` is the largest value possible).

    Raises:
        UserError: an unknown task, protocol, family or judge; a model that does not open; nothing that could be run; no memory for a
            single item; no space left; another process at work in ``output`` with other settings.
    """
    wanted = [tasks] if isinstance(tasks, Wanted) else list(tasks)
    settings: dict[str, Any] = {"limit": limit, "batch_size": batch_size, "workers": workers, "protocol": protocol}
    settings |= {"family": family, "letters": letters}
    more: dict[str, Any] = {"has_teacher": teacher is not None, "has_judge": judge != "rule"}
    planned = plan_call(wanted, tasks_folders=tasks_folders, **settings, **more)
    if (
        output is None
        and judge == "rule"
        and (names := [one.task.name for one in planned.tasks if answers_only(one.task)])
    ):
        raise UserError(
            f"{', '.join(names)}: without a judge there are answers alone; name a folder for them with output="
        )
    place = place_of(device, 1).device if isinstance(model, str | Path) else device
    options = {"device": place, "dtype": dtype, "trust_remote_code": trust_remote_code}
    reader = open_judge(judge, OpenOptions(place, dtype, trust_remote_code, timeout, judge_key_variable))
    with ExitStack() as stack:
        folder = stack.enter_context(_kept_in(output))
        watch = stack.enter_context(shown(quiet))
        served = {"timeout": timeout, "key_variable": key_variable} if isinstance(model, str | Path) else {}
        asked = stack.enter_context(opened(model, processor, adapter=adapter, **options, **served))
        measured = None
        if teacher is not None:
            named = options if isinstance(teacher, str | Path) else {}
            measured = stack.enter_context(opened(teacher, **named))
        found = run_tasks(
            asked,
            planned.tasks,
            output_dir=folder,
            seed=seed,
            not_run=planned.not_run,
            teacher=measured,
            judge=reader,
            watch=watch,
            say=None if quiet else print,
            **settings,
        )
    return planned.results(found, protocol, None if output is None else Path(output))


@contextmanager
def _kept_in(output: str | Path | None) -> Iterator[Path]:
    if output is not None:
        yield Path(output)
        return
    with tempfile.TemporaryDirectory(prefix="taid-vlm-eval-") as folder:
        yield Path(folder)
