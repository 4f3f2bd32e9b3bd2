"""Our models in lmms-eval: its command, by the entry point, gives the answers that the model gives alone.

Runs where lmms-eval is installed beside this package: ``pip install lmms-eval==0.7.3``, in an environment of its own.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm_eval.models import Request, open_model
from tests.tiny.language_model import save_chatty_llama
from tests.tiny.native import save_native

if find_spec("lmms_eval") is None:
    pytest.skip("lmms-eval is not installed", allow_module_level=True)

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FUNCTIONS = """
def pictures(doc):
    return [doc["image"].convert("RGB")]

def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def score(doc, results):
    return {"acc": float(results[0] == doc["answer"])}
"""
COLOURS = ["red", "green", "blue", "white"]


def rows() -> list[tuple[str, Image.Image]]:
    """Questions of unlike lengths, two about each picture."""
    made = [Image.new("RGB", (30 + 9 * place, 28), colour) for place, colour in enumerate(COLOURS)]
    return [(f"what {'kind of ' * (index % 3)}colour?", made[index // 2]) for index in range(8)]


def write_tasks(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks on the same records; the second stops at a text."""
    from datasets import Dataset

    monkeypatch.setenv("HF_DATASETS_CACHE", str(root / "datasets"))
    monkeypatch.setenv("HF_HOME", str(root / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    records = [{"question": text, "image": image, "answer": "never"} for text, image in rows()]
    Dataset.from_list(records).to_parquet(root / "rows.parquet")
    folder = root / "tasks"
    folder.mkdir()
    (folder / "functions.py").write_text(FUNCTIONS)
    for name, more in (("colours", {}), ("colours_cut", {"until": ["e", "o"]})):
        content = {
            "task": name,
            "dataset_path": "parquet",
            "dataset_kwargs": {"data_files": {"test": str(root / "rows.parquet")}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_visual": "FUNCTION functions.pictures",
            "doc_to_text": "FUNCTION functions.question",
            "doc_to_target": "answer",
            "process_results": "FUNCTION functions.score",
            "generation_kwargs": {"max_new_tokens": 7, "temperature": 0, "do_sample": False, **more},
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        text = yaml.safe_dump(content).replace("FUNCTION ", "!function ").replace("'!function", "!function")
        (folder / f"{name}.yaml").write_text(text)
    return folder


def alone(folder: Path, stops: tuple[str, ...] = ()) -> list[str]:
    model = open_model(folder, device="cpu", reuse_images=False)
    said = [model.generate([Request(text, [image], stops=stops)], 7)[0] for text, image in rows()]
    return [str(one) for one in said]


def _text(kept: Any) -> str:
    """The files of the harness have a single answer without its list."""
    return str(kept if isinstance(kept, str) else kept[0])


@pytest.fixture
def student(tmp_path: Path) -> Path:
    base: dict[str, Any] = {"language_model": {"source": str(save_chatty_llama(tmp_path / "base"))}}
    eyes = {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}
    content = {**base, "vision_encoder": eyes, "projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    spec = StudentSpec.model_validate(content)
    save_student(*build_student(spec), spec, tmp_path / "student")
    return tmp_path / "student"


@pytest.mark.slow
def test_their_command_runs_a_student(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    included = write_tasks(tmp_path, monkeypatch)
    command = [
        sys.executable,
        "-m",
        "lmms_eval",
        "--model",
        "taid_vlm",
        "--tasks",
        "colours,colours_cut",
        "--batch_size",
        "3",
    ]
    command += ["--model_args", f"pretrained={student}", "--device", "cpu", "--include_path", str(included)]
    command += ["--log_samples", "--output_path", str(tmp_path / "out"), "--verbosity", "DEBUG"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for name, stops in (("colours", ()), ("colours_cut", ("e", "o"))):
        (file,) = (tmp_path / "out").rglob(f"*samples_{name}.jsonl")
        kept = sorted(map(json.loads, file.read_text().splitlines()), key=lambda one: one["doc_id"])
        assert [_text(one["filtered_resps"]) for one in kept] == alone(student, stops)
    assert alone(student) != alone(student, ("e", "o"))


@pytest.mark.slow
def test_a_stock_model_and_the_picture_once_for_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from taid_vlm_eval.models import assembling

    folder = save_native(tmp_path / "qwen", "qwen2_vl", chat_template=TEMPLATE)
    wanted = alone(folder)
    read: list[Any] = []
    read_picture = assembling.read_picture

    def counted(*arguments: Any) -> Any:
        read.append(arguments)
        return read_picture(*arguments)

    monkeypatch.setattr(assembling, "read_picture", counted)
    manager = TaskManager(include_path=str(write_tasks(tmp_path, monkeypatch)))
    arguments = f"pretrained={folder},dtype=float32"
    found = simple_evaluate(
        "taid_vlm", arguments, tasks=["colours"], task_manager=manager, batch_size="4", device="cpu", log_samples=True
    )
    kept = sorted(found["samples"]["colours"], key=lambda one: one["doc_id"])
    assert [one["filtered_resps"][0] for one in kept] == wanted
    assert len(read) == len(COLOURS)


def test_the_class_tells_of_what_it_does_not_know(student: Path) -> None:
    from taid_vlm_eval.bridges.lmms_model import TaidVLM

    with pytest.raises(UserError, match="unknown model_args max_pixels; expected pretrained"):
        TaidVLM(str(student), device="cpu", max_pixels=3)
    model = TaidVLM(str(student), batch_size="auto", device="cpu")
    assert model.batch_size == 32
    picture = Image.new("RGB", (20, 20), "red")
    model.task_dict["t"] = {"s": [{"image": picture}]}

    class Asked:
        args = ("what?", "red", lambda document: [document["image"]], 0, "t", "s")

    ((loss, _),) = model.loglikelihood([Asked])
    opened: Any = open_model(student, device="cpu")
    ((one,),) = opened.log_likelihoods([Request("what?", [picture])], [["red"]])
    assert loss == pytest.approx(-one.log_probability / one.tokens, abs=1e-5)
