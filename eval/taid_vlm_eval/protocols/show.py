"""What a protocol asks of a family of models, in words, with an example for each task."""

from collections.abc import Sequence
from pathlib import Path

from taid_vlm_eval.asking import text_of, tiles_of
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.placing import place_images
from taid_vlm_eval.protocols.applying import require_task, under
from taid_vlm_eval.protocols.families import require_family
from taid_vlm_eval.protocols.loading import load_protocol
from taid_vlm_eval.style import Style
from taid_vlm_eval.suites import suite_tasks
from taid_vlm_eval.task import Task
from taid_vlm_eval.task_files import load_task

_OPTIONS = {"options": {"A": "a cat", "B": "a dog"}}
_CHINESE = {"options": {"A": "猫", "B": "狗"}}
_PLAIN = "What does the picture show?"
# Made up, with all that a record of the task may have.
_EXAMPLES = {
    "mmbench_v11": (_PLAIN, "It was taken at a fair.", _OPTIONS, 1),
    "mmbench_v11_cn": ("图中是什么？", "", _CHINESE, 1),
    "mmmu": ("Which of <image 1> and <image 2> shows it?", "", _OPTIONS, 2),
    "mathvista": (
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
        "Question: Is it larger?\nChoices:\n(A) Yes\n(B) No",
        "",
        {},
        1,
    ),
}
_BY_KIND = {
    "mcq": (_PLAIN, "", _OPTIONS, 1),
    "mmmu": (_PLAIN, "", _OPTIONS, 1),
    "yes-no": ("Is the left line longer?", "", {}, 1),
    "vqa": ("What is written on the sign?", "", {}, 1),
    "own": ("what is written in the image?", "", {}, 1),
}


def default_tasks() -> list[str]:
    """Those of the table of vision-language models in TAID's paper; its MMBench_V11 is two tasks."""
    names = suite_tasks("openvlm")
    place = names.index("mmbench_v11") + 1
    return [*names[:place], "mmbench_v11_cn", *names[place:]]


def show_protocol(name: str, family: str, tasks: Sequence[str] = ()) -> str:
    """Lines that say what is asked, how, and how it is scored.

    Args:
        tasks: those of the paper's table when left out.

    Raises:
        UserError: unknown protocol or family, ``default`` (under which tasks say all themselves), or a task that it does not define.
    """
    protocol = load_protocol(name)
    asked = require_family(family, protocol)
    lines = [f"{name}: {protocol.description}", f"read: {protocol.judge}", f"family {family}: {asked.description}"]
    lines += [f"note: {text}" for text in asked.differs]
    for task_name in tasks or default_tasks():
        task_file = load_task(task_name)
        kind = require_task(task_file.task, protocol).kind
        moved = under(task_file, name, family).task
        lines += ["", *_task_lines(moved, kind, protocol.tasks[task_name].dataset, protocol.tasks[task_name].md5)]
    for figure, parts in protocol.averages.items():
        if set(parts) <= set(tasks or default_tasks()):
            lines += ["", f"{figure}: the mean of {' and '.join(parts)}"]
    return "\n".join(lines)


def _task_lines(task: Task, kind: str, dataset: str, md5: str) -> list[str]:
    question, hint, facts, count = _EXAMPLES.get(task.name, _BY_KIND[kind])
    item = Item("example", question, "", [Path("example")] * count, facts=facts, bare=question, hint=hint)
    text, order, layout = place_images(text_of(item, task), count, task.style)
    mode = f", mode {task.mode}" if task.mode else ""
    tiles = tiles_of(task.style, len(order))
    how = [f"at most {task.generation.max_new_tokens} tokens"] + ([f"{tiles} tiles a picture"] if tiles else [])
    shown = "".join(f"[picture {one + 1}]" if isinstance(one, int) else one for one in layout or (*order, text))
    note = task.protocol.partition("; ")[2]
    return [
        f"{task.name}: {dataset}, {_source(task)}, MD5 there {md5}",
        f"  scorer {task.scorer}{mode}; metric {task.metric}; {', '.join(how + _pictures(task.style))}",
        *([f"  {note}"] if note else []),
        *(f"  | {line}" for line in shown.split("\n")),
        *(
            [f"  the answer begins with {task.style.answer_start!r}{_when(task.style)}"]
            if task.style.answer_start
            else []
        ),
    ]


def _source(task: Task) -> str:
    return task.data.url or f"{task.data.path} on the hub"


def _pictures(style: Style) -> list[str]:
    found = [f"the first picture {style.first_image_scale} times as large"] if style.first_image_scale > 1 else []
    return found + (["a single picture through a JPEG"] if style.jpeg else [])


def _when(style: Style) -> str:
    return ' where the text holds "A." and "B."' if style.answer_starts == "lettered" else ""
