"""lm-evaluation-harness: any of our checkpoints as its model, and a command that runs its tasks.

Its own command finds no models outside its package, so ours hands it an object.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm_eval.models.protocol import Model

MISSING = "lm-evaluation-harness is an optional package; install it: pip install 'taid-vlm[lm-eval]'"


def require() -> None:
    """Raises UserError where lm-eval is not installed."""
    try:
        import lm_eval.api.model  # noqa: F401
    except ImportError as error:
        raise UserError(f"{MISSING} ({error})") from error


def make(model: Model, batch_size: int = 32) -> Any:
    """The model as an ``lm_eval.api.model.LM``, for ``lm_eval.simple_evaluate``.

    Raises:
        UserError: lm-eval is not installed; the model runs elsewhere, or see :class:`Texts`.
    """
    require()
    from lm_eval.api.model import LM

    from taid_vlm_eval.bridges.texts import Texts

    class TaidVLM(LM):  # type: ignore[misc, unused-ignore]
        """See the interface of lm-eval; only texts are asked."""

        def __init__(self) -> None:
            super().__init__()
            self._texts = Texts(model, batch_size)
            self.batch_size = batch_size

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return self._kept("loglikelihood", requests, self._texts.likelihoods([one.args for one in requests]))

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            found = self._texts.whole_likelihoods([one.args[0] for one in requests])
            return self._kept("loglikelihood_rolling", requests, found)

        def generate_until(self, requests: list[Any]) -> list[str]:
            return self._kept("generate_until", requests, self._texts.generate([one.args for one in requests]))

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return self._texts.chat(chat_history, add_generation_prompt)

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return self._texts.chat_template if chat_template else None

        @property
        def tokenizer_name(self) -> str:
            # What prompts depend on; the harness names its caches of requests after it.
            said = json.dumps(model.describe(), sort_keys=True, default=str) + self._texts.chat_template
            return f"{model.name.replace('/', '__')}__{hashlib.sha256(said.encode()).hexdigest()[:12]}"

        def get_model_info(self) -> dict[str, Any]:
            return {f"model_{key}": value for key, value in model.describe().items()}

        def _kept(self, kind: str, requests: list[Any], found: list[Any]) -> list[Any]:
            for request, one in zip(requests, found, strict=True):
                self.cache_hook.add_partial(kind, request.args, one)
            return found

    return TaidVLM()


def run(
    model: Model,
    tasks: Sequence[str],
    *,
    output: Path | None = None,
    batch_size: int = 32,
    include: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    apply_chat_template: bool = False,
    gen_kwargs: str | None = None,
) -> dict[str, Any]:
    """Run tasks of lm-eval, print its table, and write ``results.json`` and ``samples_<task>.jsonl``.

    Args:
        tasks: names of its tasks or groups.
        output: folder to write.
        include: folder of more task files.
        shots: solved examples, in place of each task's own number.
        limit: at most so many records of each task.
        gen_kwargs: arguments of generation as its command takes them, over those of the tasks.

    Raises:
        UserError: lm-eval is not installed, an unknown task, or see :class:`Texts`.
    """
    made = make(model, batch_size)
    import lm_eval
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable, make_table

    manager = TaskManager(include_path=None if include is None else str(include))
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise UserError(
            f"lm-eval has no task {unknown[0]!r}; `lm_eval ls tasks` lists them, --include-path adds a folder"
        )
    found = lm_eval.simple_evaluate(
        made,
        tasks=list(tasks),
        num_fewshot=shots,
        limit=limit,
        task_manager=manager,
        apply_chat_template=apply_chat_template,
        gen_kwargs=gen_kwargs,
        log_samples=output is not None,
    )
    print(make_table(found))
    if found.get("groups"):
        print(make_table(found, "groups"))
    samples = found.pop("samples", {})
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        as_text: dict[str, Any] = {"ensure_ascii": False, "default": handle_non_serializable}
        for name, rows in samples.items():
            lines = [json.dumps(row, **as_text) + "\n" for row in rows]
            write_atomic(output / f"samples_{name.replace('/', '__')}.jsonl", "".join(lines))
        write_atomic(
            output / "results.json", json.dumps({**found, "model": model.describe()}, indent=2, **as_text) + "\n"
        )
    return dict(found)
