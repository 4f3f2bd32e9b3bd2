"""One run with tiny models: what is recorded, what is left behind, and what another process finds."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from taid_vlm.common.assets import cache_folder
from taid_vlm.models.saved import load_student
from taid_vlm.recipe import Recipe
from taid_vlm.study import bench
from taid_vlm.study.bench import Bench
from taid_vlm.study.definitions import write_exchanges
from taid_vlm.study.plan import Job
from taid_vlm.study.records import Record
from tests.study.study_cases import WORDS
from tests.tiny.language_model import save_tiny_llama


@dataclass(frozen=True)
class TinyJob(Job):
    """A run of text with a random teacher of three layers."""

    model: Path = Path()
    steps: int = 4

    def recipe(self) -> Recipe:
        loss = {"name": self.method} | ({"alpha_total": 5.9} if self.method == "taid" else {})
        language_model = {"source": str(self.model)}
        return Recipe.model_validate(
            {
                "seed": self.seed,
                "student": {"language_model": {**language_model, "layers": 1}},
                "teacher": {"language_model": language_model, "chat_template": "chatml"},
                "data": {"train": [{"kind": "jsonl", "path": "cache:study/words-1"}], "max_length": 80},
                "loss": loss,
                "training": {"steps": self.steps, "batch_size": 2, "lr": self.lr, "trackers": []},
            }
        )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = cache_folder() / "study" / "words-1"
    folder.mkdir(parents=True)
    for split, count in (("train", 6), ("validation", 2), ("test", 3)):
        write_exchanges(folder / f"{split}.jsonl", [(f"q{split}{i}", f"a{i}") for i in range(count)])
    return save_tiny_llama(tmp_path / "llama")


def run(tmp_path: Path, job: TinyJob) -> Record:
    return Bench(tmp_path / "running", lambda line: None).run(job)


def test_a_run_is_recorded_and_leaves_nothing(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    examine = Bench.examine

    def kept(self, folder, exam, pair):  # type: ignore[no-untyped-def]
        student = load_student(folder).student
        seen.append(float(sum(p.double().abs().sum() for p in student.parameters())))
        return examine(self, folder, exam, pair)

    monkeypatch.setattr(Bench, "examine", kept)
    record = run(tmp_path, TinyJob(WORDS, "taid", 1, 1e-2, model))
    assert set(record.figures) == {"validation", "test"}
    assert 0 <= record.figures["test"]["rouge_l"] <= 1
    assert len(record.items["test"]["agreed"]) == 3
    tokens = record.items["test"]["tokens"]
    agreement = sum(record.items["test"]["agreed"]) / sum(tokens)
    assert record.figures["test"]["agreement"] == pytest.approx(agreement, abs=1e-6)
    assert record.clock[0] == 0.4
    assert len(record.clock) == 4
    assert record.seconds > 0
    assert record.hardware["processor"]
    assert set(record.made_of) == {"teacher"}
    assert list((tmp_path / "running").iterdir()) == []
    # Another seed trains another student; the same seed the same one, although the teacher's part is now read from the cache.
    again = run(tmp_path, TinyJob(WORDS, "taid", 1, 1e-2, model))
    assert again.figures == record.figures
    assert again.items == record.items
    other = run(tmp_path, TinyJob(WORDS, "taid", 2, 1e-2, model))
    assert seen[0] == seen[1] != seen[2]
    assert other.recipe != record.recipe


def test_a_teacher_agrees_with_itself(tmp_path: Path, model: Path) -> None:
    job = TinyJob(WORDS, "kl", 1, 1e-2, model)
    record = Bench(tmp_path / "running", lambda line: None).teacher(job)
    assert record.made_of["teacher"] == run(tmp_path, job).made_of["teacher"]
    test = record.figures["test"]
    assert test["agreement"] == 1
    assert test["kl"] == test["reverse_kl"] == 0
    assert record.items["test"]["agreed"] == record.items["test"]["tokens"]
    # Its cross-entropy is that of the labels: a teacher that was drawn at random is near the uniform distribution.
    assert test["cross_entropy"] == pytest.approx(test["entropy"], rel=0.2)


def test_a_run_that_breaks_down_is_recorded_as_such(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taid_vlm.training import update

    real = update.loss_of

    def broken(*args, **more):  # type: ignore[no-untyped-def]
        out = real(*args, **more)
        out.loss.data.fill_(torch.nan)
        return out

    monkeypatch.setattr(update, "loss_of", broken)
    record = run(tmp_path, TinyJob(WORDS, "kl", 0, 1e-2, model, steps=12))
    assert "not finite" in record.failed
    assert record.figures == {}
    assert list((tmp_path / "running").iterdir()) == []


def test_a_stopped_run_of_another_recipe_is_cleared_away(tmp_path: Path, model: Path) -> None:
    job = TinyJob(WORDS, "kl", 0, 1e-2, model)
    left = tmp_path / "running" / job.key.replace("/", "-")
    left.mkdir(parents=True)
    (left / "run.json").write_text('{"recipe": "another"}')
    assert run(tmp_path, job).figures


def test_the_digest_of_held_out_samples_follows_their_words_and_not_their_folder(tmp_path: Path, model: Path) -> None:
    from taid_vlm.data import read_records

    recipe = TinyJob(WORDS, "kl", 0, 1e-2, model).recipe()
    first = read_records([bench._source(recipe, "test")], 0)
    file = cache_folder() / "study" / "words-1" / "test.jsonl"
    before = bench._digest(first)
    file.write_text(file.read_text().replace("a1", "b1"))
    assert bench._digest(read_records([bench._source(recipe, "test")], 0)) != before
