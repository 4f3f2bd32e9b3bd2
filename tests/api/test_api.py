"""The Python interface: cheap to import, typed, documented, and the examples of docs/api.md run word for word."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import taid_vlm
import taid_vlm_eval
from taid_vlm import TAIDLoss
from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, cross_entropy, taid
from tests.tiny.language_model import tiny_llama

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def example(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    return found[1]


def test_docs_and_packages_name_the_same() -> None:
    told = set(re.findall(r"^\| `([\w.]+)` \|", DOCS, re.MULTILINE))
    public = {f"{one.__name__}.{name}" for one in (taid_vlm, taid_vlm_eval) for name in one.__all__}
    assert told == public - {"taid_vlm.__version__"}


@pytest.mark.parametrize("package", [taid_vlm, taid_vlm_eval])
def test_public_names_are_documented_and_typed(package: Any) -> None:
    assert (Path(package.__file__).parent / "py.typed").is_file()
    for name in package.__all__:
        if name == "__version__":
            continue
        thing = getattr(package, name)
        assert inspect.getdoc(thing), name
        signature = inspect.signature(thing)
        assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values()), name


@pytest.mark.parametrize("name", ["taid_vlm", "taid_vlm_eval"])
def test_importing_is_cheap(name: str) -> None:
    code = f"import sys, {name}; print([one for one in ('torch', 'transformers', 'pydantic') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("first", ["import taid_vlm.export.plan", "pass"])
def test_export_is_a_function_whether_its_folder_was_imported_before_or_not(first: str) -> None:
    code = (
        f"{first}\nfrom taid_vlm import export\nimport taid_vlm.export.write as w\nprint(callable(export), w.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True taid_vlm.export.write\n", done.stderr
    with pytest.raises(UserError):
        taid_vlm.export("nowhere")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        importlib.import_module("taid_vlm").nothing  # noqa: B018


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 7, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, 11, (2, 7), generator=generator)
    labels[0, :3] = -100
    return student.requires_grad_(), teacher, labels


def test_it_is_taid_at_the_supervised_rows() -> None:
    student, teacher, labels = batch()
    rows = [(i, j) for i in range(2) for j in range(6) if labels[i, j + 1] != -100]
    s, t = (torch.stack([x[i, j] for i, j in rows]) for x in (student, teacher))
    right = torch.stack([labels[i, j + 1] for i, j in rows])
    expected = taid(s, t, 0.4).mean() + 0.5 * cross_entropy(s, right).mean()
    torch.testing.assert_close(TAIDLoss(10, ce_weight=0.5)(student, teacher, labels), expected)
    told = TAIDLoss(10, ce_weight=0.5)(student, teacher, labels, num_items=2 * len(rows))
    torch.testing.assert_close(2 * told, expected)
    # Labels that stand where they are predicted.
    placed = torch.cat([labels[:, 1:], torch.full((2, 1), -100)], dim=1)
    torch.testing.assert_close(TAIDLoss(10, ce_weight=0.5, shift=False)(student, teacher, placed), expected)


def test_the_clock_moves_once_a_step_by_the_mean_over_all_tokens_and_never_in_validation() -> None:
    loss, clock = TAIDLoss(8, alpha_total=6.0), TAIDClock(8, alpha_total=6.0)
    for step in range(6):
        values = []
        for seed in (2 * step, 2 * step + 1):
            student, teacher, labels = batch(seed)
            learnt = labels[:, 1:] != -100
            values.append(taid(student[:, :-1][learnt], teacher[:, :-1][learnt], loss.t).detach())
            loss(student, teacher, labels)
            with torch.no_grad():
                loss(10 * student, teacher, labels)
        assert loss.t == clock.t
        clock.update(torch.cat(values).mean().item(), step)
        assert loss.step() == pytest.approx(clock.t, abs=1e-12)
    assert loss.t > 0.4
    copy = TAIDLoss(8, alpha_total=6.0)
    copy.load_state_dict(loss.state_dict())
    assert copy.state_dict() == loss.state_dict()
    assert copy.t == loss.t


def test_no_supervised_token_is_a_loss_of_nothing() -> None:
    student, teacher, labels = batch()
    loss = TAIDLoss(4)
    value = loss(student, teacher, torch.full_like(labels, -100))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert not student.grad.any()
    assert loss.step() == 0.4


def test_mistakes_are_told() -> None:
    student, teacher, labels = batch()
    with pytest.raises(UserError, match="shape"):
        TAIDLoss(4)(student, teacher[:, :-1], labels)
    with pytest.raises(UserError, match="vocabulary="):
        TAIDLoss(4)(student, teacher[..., :9], labels)
    with pytest.raises(UserError, match="set_point"):
        TAIDLoss(4, schedule="set_point")
    with pytest.raises(UserError, match="state"):
        TAIDLoss(4).load_state_dict({"_extra_state": {"t": 1}})


def test_the_own_loop_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    student, teacher = tiny_llama(layers=1, seed=1), tiny_llama(layers=1, seed=2).eval()
    ids = torch.randint(4, 260, (3, 2, 12), generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {
        "batches": [{"input_ids": one, "labels": one} for one in ids],
        "student": student,
        "teacher": teacher,
        "optimizer": torch.optim.AdamW(student.parameters(), lr=1e-3),
    }
    exec(example("own loop"), names)
    again = TAIDLoss(3, alpha_total=5.9)
    again.load_state_dict(torch.load("taid.pt", weights_only=True))
    assert again.t == names["taid"].t > 0.4


@pytest.mark.slow
def test_the_trainer_of_the_docs_trains_and_moves_the_clock_once_a_step(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    names: dict[str, Any] = {}
    exec(example("trainer"), names)
    ids = torch.randint(4, 260, (16, 12), generator=torch.Generator().manual_seed(0)).tolist()
    options: Any = {"max_steps": 4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "use_cpu": True}
    trainer = names["TAIDTrainer"](
        model=tiny_llama(layers=1, seed=1),
        teacher=tiny_llama(layers=1, seed=2),
        args=TrainingArguments(str(tmp_path), report_to=[], save_strategy="no", logging_steps=1, **options),
        train_dataset=[{"input_ids": one, "labels": one} for one in ids],
        eval_dataset=[{"input_ids": one, "labels": one} for one in ids[:4]],
    )
    trainer.train()
    assert trainer.taid.clock.updates == 4
    before = trainer.taid.state_dict()
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.taid.state_dict() == before
