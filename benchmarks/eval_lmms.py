"""lmms-eval on the same questions and the same checkpoint; run by the interpreter that has it.

PYTHON benchmarks/eval_lmms.py CHECKPOINT TASKS_FOLDER TASK DTYPE

Each line of the input is a batch size: one evaluation, and one line of JSON about it.
"""

import json
import sys
import time
from importlib.metadata import version
from typing import Any


class WithoutEmpty:
    """A processor that is not handed empty lists: the class always passes ``videos`` and ``audios``, which releases of transformers refuse."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, **named: Any) -> Any:
        return self._processor(**{key: value for key, value in named.items() if value or key == "text"})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)


def main() -> None:
    """Evaluate with lmms-eval's own model class for checkpoints of transformers, and print seconds and answers."""
    checkpoint, tasks, task, dtype = sys.argv[1:]
    import torch
    from lmms_eval import evaluator
    from lmms_eval.models.chat.huggingface import Huggingface
    from lmms_eval.tasks import TaskManager
    from transformers import AutoModelForImageTextToText

    model = Huggingface(pretrained=checkpoint, device="cpu", device_map="cpu", batch_size=1)
    # The class loads bfloat16 and takes no other, and of some image-text models it loads the part that cannot generate.
    model._model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=getattr(torch, dtype), trust_remote_code=False
    ).eval()
    # The class leaves the side of padding to the checkpoint; padded on the right, most answers of a batch would be empty.
    model.processor.tokenizer.padding_side = "left"
    model.processor = WithoutEmpty(model.processor)
    times: list[float] = []
    answers: dict[str, str] = {}  # of the last evaluation
    generate = model.generate_until

    def timed(requests: Any) -> Any:
        answers.clear()
        start = time.perf_counter()
        found = generate(requests)
        times.append(time.perf_counter() - start)
        for request, one in zip(requests, found, strict=True):
            _, _, _, doc, name, split = request.args
            answers[model.task_dict[name][split][doc]["id"]] = getattr(one, "text", one).strip()
        return found

    model.generate_until = timed
    about = {"lmms-eval": version("lmms-eval"), "torch": version("torch"), "transformers": version("transformers")}
    kept = dict(vars(model))
    for line in sys.stdin:
        vars(model).update(kept)  # an evaluation ends with taking the model apart
        model.batch_size_per_gpu = int(line)
        evaluator.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=TaskManager(include_path=tasks, include_defaults=False),
            bootstrap_iters=0,
            batch_size=int(line),
        )
        print(json.dumps({"seconds": times[-1], "answers": answers, "versions": about}), flush=True)


if __name__ == "__main__":
    main()
