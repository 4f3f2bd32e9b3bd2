"""A task as a protocol asks and scores it."""

from dataclasses import asdict, replace

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.protocols.families import require_family
from taid_vlm_eval.protocols.loading import DEFAULT, load_protocol, merged
from taid_vlm_eval.protocols.schema import Protocol, ProtocolTask
from taid_vlm_eval.strict_yaml import build
from taid_vlm_eval.style import Style, require_style
from taid_vlm_eval.task import Data, Prompt, Task, TaskFile


def require_task(task: Task, protocol: Protocol) -> ProtocolTask:
    """The protocol's side of a task.

    Raises:
        UserError: the protocol does not define the task.
    """
    if task.name not in protocol.tasks:
        raise UserError(
            f"protocol {protocol.name!r} does not define the task {task.name!r}: {did_you_mean(task.name, protocol.tasks)}; "
            f"leave --protocol out to ask it as its own file says"
        )
    return protocol.tasks[task.name]


def with_data(task_file: TaskFile, name: str) -> TaskFile:
    """The task with data and scoring of a protocol, which no family changes; unchanged under ``default``.

    Raises:
        UserError: unknown protocol, or it does not define the task.
    """
    if name == DEFAULT:
        return task_file
    task = task_file.task
    wanted = require_task(task, load_protocol(name))
    plain = {} if "source" in wanted.data else _written(task.data)
    data = build(Data, merged(plain, wanted.data), f"protocol {name}: task {task.name}: data")
    scorer, mode, metric = wanted.scorer or task.scorer, wanted.mode or task.mode, wanted.metric or task.metric
    return replace(task_file, task=replace(task, data=data, scorer=scorer, mode=mode, metric=metric))


def _written(data: Data) -> dict[str, object]:
    return {key: value for key, value in asdict(data).items() if value}


def under(task_file: TaskFile, name: str, family: str) -> TaskFile:
    """The task as a protocol asks models of a family, and scores them; unchanged under ``default``.

    Raises:
        UserError: unknown protocol or family, or the protocol does not define the task.
    """
    if name == DEFAULT:
        return task_file
    protocol = load_protocol(name)
    wanted, asked = require_task(task_file.task, protocol), require_family(family, protocol)
    own = asked.tasks.get(task_file.task.name)
    wording = protocol.wordings[own.wording if own and own.wording else asked.kinds[wanted.kind]]
    keys = {**asked.style, **(own.style if own else {}), "protocol": name, "family": family}
    where = f"protocol {name}: family {family}"
    style = replace(build(Style, keys, where), wording=wording)
    require_style(style)
    said = f"{name}, family {family}: {wanted.dataset} of VLMEvalKit" + (f"; {wanted.note}" if wanted.note else "")
    moved = with_data(task_file, name)
    generation = replace(moved.task.generation, max_new_tokens=asked.max_new_tokens)
    task = replace(moved.task, prompt=Prompt(), generation=generation, protocol=said, style=style)
    return replace(moved, task=task)
