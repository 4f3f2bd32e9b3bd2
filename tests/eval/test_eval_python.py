"""``taid_vlm_eval.evaluate``: every kind of model, every kind of task, what comes back, and that nothing is left or changed."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from taid_vlm import load_student
from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm_eval import Results, evaluate, evaluating, load_task, open_model
from taid_vlm_eval.cli import main
from taid_vlm_eval.models import Request
from taid_vlm_eval.suites import SUITES
from tests.eval.fakes import FakeModel, sees_colour, small_task, write_rows, write_task
from tests.eval.servers import serving
from tests.tiny.language_model import save_chatty_llama

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sees(request: Request) -> str:
    return sees_colour(request) if request.images else "a"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three tasks, and a folder of temporary files that must stay empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    small_task(tmp_path)
    write_rows(tmp_path, [{"question": f"{n}?", "answer": "a" * (n + 1)} for n in range(4)], "text.jsonl")
    write_task(tmp_path, name="text", data={"source": "jsonl", "path": "text.jsonl"})
    write_task(tmp_path, name="judged", scorer="none", metric="none")
    return tmp_path


def test_what_comes_back(place: Path) -> None:
    results = evaluate(FakeModel(sees), "small.yaml", limit=4, quiet=True)
    assert isinstance(results, Results)
    (one,) = results
    assert results["small"] is results[0] is one
    assert (one.value, one.n, one.limit) == (1.0, 4, 4)
    assert one.low < one.high == 1.0
    assert results.tasks == ["small"]
    assert "small" in results
    assert "text" not in results
    assert json.loads(results.to_json())[0]["value"] == 1.0
    assert f"1.0000 ({one.low:.4f} to 1.0000)" in str(results)
    assert repr(results) == f"<Results small: 1.0000 ({one.low:.4f} to 1.0000)>"
    with pytest.raises(UserError, match="no result of a task 'smal': did you mean 'small'"):
        results["smal"]


def test_nothing_is_left_behind_without_an_output_and_all_of_it_with_one(place: Path) -> None:
    before = {path.name for path in place.iterdir()}
    evaluate(FakeModel(sees), "small.yaml", quiet=True)
    assert {path.name for path in place.iterdir()} == before
    assert not list((place / "temporary").iterdir())
    results = evaluate(FakeModel(sees), "small.yaml", output="kept", quiet=True)
    assert sorted(path.name for path in (place / "kept").iterdir()) == ["small.answers.jsonl", "small.result.json"]
    assert results.folder == Path("kept")
    again = evaluate(FakeModel(dies_after=0), "small.yaml", output="kept", quiet=True)  # asked nothing
    assert again[0].value == results[0].value


def test_what_python_and_the_command_find_is_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("taid_vlm_eval.cli.open_model", lambda *args, **options: FakeModel(sees))
    tasks = ["small.yaml", "judged.yaml", "text.yaml"]
    assert main(["m", "--tasks", ",".join(tasks), "--json", "--limit", "3"]) == 1
    rows = json.loads(capsys.readouterr().out)
    results = evaluate(FakeModel(sees), tasks, limit=3, quiet=True, output="python")
    own = json.loads(results.to_json())
    for row in (*rows, *own):
        row.pop("answers_per_second", None)
    assert own == rows
    assert capsys.readouterr().out == ""


def test_tasks_are_names_suites_files_and_what_was_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "mine", ("small", "of_later"))
    folders = [str(place)]
    for tasks in ("small", ["small"], "mine", ["small.yaml"], Path("small.yaml"), load_task("small.yaml")):
        results = evaluate(FakeModel(sees), tasks, tasks_folders=folders, limit=2, quiet=True)
        assert results.tasks == ["small"]
    results = evaluate(FakeModel(sees), ["text", "mine", "small"], tasks_folders=folders, limit=2, quiet=True)
    assert results.tasks == ["text", "small"]
    assert list(results.not_run) == ["of_later"]


def test_a_task_that_cannot_be_run_says_why_and_the_others_go_on(place: Path) -> None:
    results = evaluate(FakeModel(), ["judged.yaml", "text.yaml"], quiet=True)
    assert results.tasks == ["text"]
    assert "only a judge" in results.not_run["judged"]
    with pytest.raises(UserError, match="judged was not run: task 'judged' has no scorer"):
        results["judged"]
    assert "judged: not run: task 'judged' has no scorer" in str(results)
    assert repr(results).endswith("judged: not run>")
    with pytest.raises(UserError, match="only a judge"):
        evaluate(FakeModel(), "judged.yaml", quiet=True)


def test_answers_for_a_judge_need_a_folder(place: Path) -> None:
    task = write_task(
        place,
        name="turns",
        asks="turns",
        scorer="none",
        metric="mt_bench",
        data={"source": "jsonl", "path": "text.jsonl"},
    )
    with pytest.raises(UserError, match="turns: without a judge there are answers alone; name a folder"):
        evaluate(FakeModel(), task, quiet=True)
    results = evaluate(FakeModel(), task, quiet=True, output="kept")
    assert (len(results), results.answers_only) == (0, ("turns",))
    with pytest.raises(UserError, match="turns has answers only"):
        results["turns"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "smal"}, "unknown task 'smal'"),
        ({"tasks": []}, "tasks are none"),
        ({"limit": 0}, "limit is 0"),
        ({"protocol": "openvlm"}, "unknown protocol 'openvlm'"),
        ({"judge": "gpt"}, "unknown judge 'gpt'"),
        ({"letters": "likelihood"}, "leave --letters out"),
        ({"teacher": "big"}, "no task measures a divergence"),
        ({"model": "./gone/for/good"}, "no folder at ./gone/for/good"),
        ({"model": 7}, "found int as the model, expected a folder or hub id"),
        ({"model": torch.nn.Linear(1, 1)}, "found Linear, which is no model of transformers"),
        ({"device": "cpu"}, "device: of models that are opened by their name"),
        ({"processor": "p"}, "processor= goes with a model of transformers"),
    ],
)
def test_mistakes_are_told(place: Path, options: dict[str, Any], message: str) -> None:
    given = {"model": FakeModel(), "tasks": "text.yaml", "quiet": True, **options}
    with pytest.raises(UserError, match=message):
        evaluate(**given)
    assert not list((place / "temporary").iterdir())


def test_mistakes_come_before_the_model_is_opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "opened", lambda *args, **options: pytest.fail("opened"))
    for tasks, more in (
        ("smal", {}),
        ("text.yaml", {"limit": 0}),
        ("judged.yaml", {}),
        ("text.yaml", {"judge": "gpt"}),
    ):
        with pytest.raises(UserError):
            evaluate("m", tasks, quiet=True, **more)


def test_a_model_behind_a_server(place: Path) -> None:
    with serving(lambda body: "aa") as server:
        results = evaluate(f"openai:tiny@{server.url}", "text.yaml", timeout=20, quiet=True)
        judged = evaluate(FakeModel(), "text.yaml", judge=f"openai:tiny@{server.url}", quiet=True)
    assert (results["text"].value, results["text"].model["adapter"]) == (0.25, "openai")
    assert judged["text"].judge == {"name": "rule"}  # nothing that this scorer would ask a judge


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    content: dict[str, Any] = {"language_model": {"source": str(save_chatty_llama(folder / "llama"))}}
    content |= {"projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    content |= {"vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}}
    spec = StudentSpec.model_validate(content)
    save_student(*build_student(spec), spec, folder / "student")
    return folder


def figures(results: Results) -> list[tuple[float, float, float, dict[str, int]]]:
    return [(one.value, one.low, one.high, one.parse_notes) for one in results]


def test_a_student_by_folder_opened_or_alive(place: Path, student: Path) -> None:
    asked: dict[str, Any] = {"limit": 4, "quiet": True}
    by_name = evaluate(student / "student", ["small.yaml", "text.yaml"], device="cpu", output="named", **asked)
    is_open = evaluate(
        open_model(student / "student", device="cpu"), ["small.yaml", "text.yaml"], output="open", **asked
    )
    loaded = load_student(student / "student")
    loaded.student.train()
    loaded.student.projector.eval()
    modes = [part.training for part in loaded.student.modules()]
    state = torch.random.get_rng_state()
    alive = evaluate(loaded, ["small.yaml", "text.yaml"], output="alive", **asked)
    assert [part.training for part in loaded.student.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert figures(by_name) == figures(is_open) == figures(alive)
    answers = [
        [json.loads(line)["answer"] for line in (place / name / "small.answers.jsonl").read_text().splitlines()[1:]]
        for name in ("named", "open", "alive")
    ]
    assert answers[0] == answers[1] == answers[2]
    # The same weights go on from the answers there are, and others do not.
    identity = alive["small"].model["identity"]
    assert evaluate(loaded, "small.yaml", output="alive", **asked)["small"].model["identity"] == identity
    with torch.no_grad():
        next(loaded.student.projector.parameters()).add_(1.0)
    assert evaluate(loaded, "small.yaml", output="alive", **asked)["small"].model["identity"] != identity
    assert (place / "alive" / "small.answers.jsonl.old").is_file()


def test_a_language_model_of_transformers_is_left_as_it_was(place: Path, student: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(student / "llama").train()
    tokenizer = AutoTokenizer.from_pretrained(student / "llama", padding_side="right")
    config = model.generation_config
    config.temperature, config.do_sample = 0.7, True
    live = evaluate(model, "text.yaml", processor=tokenizer, quiet=True)
    assert live[0].model["adapter"] == "transformers"
    assert model.training
    assert model.generation_config is config
    assert (config.temperature, config.do_sample, tokenizer.padding_side) == (0.7, True, "right")
    assert figures(live) == figures(evaluate(student / "llama", "text.yaml", device="cpu", dtype="float32", quiet=True))
    with pytest.raises(UserError, match="found LlamaForCausalLM alone; hand over its processor"):
        evaluate(model, "text.yaml", quiet=True)
    results = evaluate(model, ["small.yaml", "text.yaml"], processor=tokenizer, quiet=True)
    assert "is a language model, but the task has images" in results.not_run["small"]


@pytest.mark.slow
def test_a_model_of_transformers_that_sees(place: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from tests.tiny.native import save_native

    folder = save_native(place / "llava", "llava", chat_template=TEMPLATE)
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    live = evaluate(model, "small.yaml", processor=processor, quiet=True)
    assert figures(live) == figures(evaluate(folder, "small.yaml", device="cpu", quiet=True))
    with pytest.raises(UserError, match="sees pictures, and processor= is a"):
        evaluate(model, "small.yaml", processor=processor.tokenizer, quiet=True)


def test_a_teacher_may_be_alive(place: Path, student: Path) -> None:
    task = write_task(
        place,
        name="kl",
        asks="divergence",
        scorer="divergence",
        metric="divergence",
        data={"source": "jsonl", "path": "text.jsonl"},
    )
    loaded = load_student(student / "student")
    same = evaluate(student / "student", task, teacher=loaded, device="cpu", quiet=True)
    assert same["kl"].value == pytest.approx(0.0, abs=1e-5)
    other: dict[str, Any] = {"teacher": str(student / "llama"), "quiet": True}
    named = evaluate(loaded, task, **other)
    assert named["kl"].value > 0  # another chat template
    assert figures(named) == figures(evaluate(student / "student", task, device="cpu", **other))


def test_progress_is_told_unless_it_is_to_be_quiet(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("taid_vlm_eval.progress.PAUSE", -1.0)
    seen: list[bool] = []
    from taid_vlm_eval import progress

    real = progress.shown
    monkeypatch.setattr(evaluating, "shown", lambda quiet: seen.append(quiet) or real(quiet))
    evaluate(FakeModel(), "text.yaml")
    evaluate(FakeModel(), "text.yaml", quiet=True)
    assert seen == [False, True]
    assert capsys.readouterr().out == ""
