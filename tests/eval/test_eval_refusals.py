"""A task that a model cannot be asked is told, and the others go on; what counts as memory that ran out."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.memory import is_out_of_memory
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, small_task, write_rows, write_task


def text_task(folder: Path) -> Path:
    write_rows(folder, [{"question": "?", "answer": "a"}, {"question": "big", "answer": "b"}], "text.jsonl")
    return write_task(folder, name="text", data={"source": "jsonl", "path": "text.jsonl"})


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_for_a_language_model_do_not_stop_the_other_tasks(
    tmp_path: Path, language_model: Path, workers: int
) -> None:
    tasks = [small_task(tmp_path, 2), text_task(tmp_path)]
    model, not_run = open_model(language_model, device="cpu"), dict[str, str]()
    (result,) = evaluate(model, tasks, output_dir=tmp_path / "out", not_run=not_run, workers=workers)
    assert result.task == "text"
    assert list(not_run) == ["small"]
    assert "is a language model, but the task has images" in not_run["small"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"text.answers.jsonl", "text.result.json"}
    with pytest.raises(UserError, match="is a language model, but the task has images"):
        evaluate(model, tasks, output_dir=tmp_path / "strict", workers=workers)


def no_room(request: Request) -> str:
    if request.prompt == "big":
        raise RuntimeError("CUDA out of memory")
    return "a"


def test_one_item_too_large_ends_its_task_alone_and_keeps_the_answers_there_are(tmp_path: Path) -> None:
    text, pictures, not_run = text_task(tmp_path), small_task(tmp_path, 2), dict[str, str]()
    # The longest is asked first.
    write_rows(tmp_path, [{"question": "????", "answer": "a"}, {"question": "big", "answer": "b"}], "text.jsonl")
    results = evaluate(FakeModel(no_room), [text, pictures], output_dir=tmp_path / "out", not_run=not_run, batch_size=1)
    assert [result.task for result in results] == ["small"]
    assert "out of memory with the single item" in not_run["text"]
    lines = (tmp_path / "out" / "text.answers.jsonl").read_text().splitlines()
    assert [json.loads(line).get("answer") for line in lines] == [None, "a"]


def test_what_a_server_cannot_be_told_is_such_a_refusal() -> None:
    from taid_vlm_eval.models.openai_messages import as_data_url, messages_of

    with pytest.raises(CannotAskError, match="a served model cannot be told so"):
        messages_of(Request("q", max_tiles=6), as_data_url)


class Narrow(FakeModel):
    """Fails as it is told when asked more than two at once."""

    def __init__(self, failure: Callable[[], Exception]) -> None:
        super().__init__()
        self.failure = failure

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        if len(requests) > 2:
            raise self.failure()
        return super().generate(requests, max_new_tokens)


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError,
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "cublas", "torch"],
)
def test_batches_are_halved_however_memory_runs_out(tmp_path: Path, failure: Callable[[], Exception]) -> None:
    (result,) = evaluate(Narrow(failure), [small_task(tmp_path, 8)], output_dir=tmp_path / "out", batch_size=8)
    assert (result.n, result.errors, result.value) == (8, 0, 0.5)


def test_other_failures_are_not_taken_for_it(tmp_path: Path) -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(Narrow(lambda: RuntimeError("shapes differ")), [small_task(tmp_path, 8)], output_dir=tmp_path / "out")
