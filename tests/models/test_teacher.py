"""A teacher is frozen, speaks as the model it was loaded from, and its fingerprint follows what decides its words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import Teacher, teacher_from_language_model, teacher_from_saved, weights_digest
from tests.tiny.language_model import save_tiny_llama

IDS = torch.arange(10, 22).unsqueeze(0)
ROWS = torch.tensor([3, 7, 11])


def from_folder(folder: Path, template: str = "chatml", **options: Any) -> Teacher:
    return teacher_from_language_model(LanguageModelSpec(source=str(folder), **options), template)


def logits(teacher: Teacher) -> torch.Tensor:
    hidden = teacher.hidden(ModelInputs(IDS, torch.ones_like(IDS), ROWS))
    assert not hidden.requires_grad
    return hidden @ teacher.head_weight.T


def test_hidden_states_times_head_are_the_models_logits(language_model: Path) -> None:
    teacher = from_folder(language_model)
    whole = AutoModelForCausalLM.from_pretrained(language_model)(input_ids=IDS).logits[0, ROWS]
    torch.testing.assert_close(logits(teacher), whole, rtol=1e-4, atol=1e-5)
    assert teacher.head_bias is None
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training


def test_a_saved_student_can_teach(tmp_path: Path, language_model: Path) -> None:
    spec = StudentSpec(language_model=LanguageModelSpec(source=str(language_model)), chat_template="smollm2")
    save_student(*build_student(spec), spec, tmp_path / "saved")
    teacher = teacher_from_saved(str(tmp_path / "saved"))
    assert torch.equal(logits(teacher), logits(from_folder(language_model)))
    assert "helpful AI assistant" in teacher.processor.template
    assert teacher.encoder_spec is None


def test_the_fingerprint_changes_with_weights_layers_and_template(tmp_path: Path, language_model: Path) -> None:
    same = Path(shutil.copytree(language_model, tmp_path / "copy"))
    assert from_folder(language_model).fingerprint == from_folder(same).fingerprint
    changed = [
        from_folder(save_tiny_llama(tmp_path / "other", seed=1)),
        from_folder(language_model, layers=2),
        from_folder(language_model, "smollm2"),
    ]
    assert len({from_folder(language_model).fingerprint, *(t.fingerprint for t in changed)}) == 4


def test_the_digest_sees_every_value_of_every_type() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2).bfloat16())
    seen = {weights_digest(module)}
    for name in ("0.num_batches_tracked", "0.running_mean", "1.weight"):
        module.state_dict()[name].add_(1)
        seen.add(weights_digest(module))
    assert len(seen) == 4


@pytest.mark.parametrize("key", ["template", "images", "vocabulary"])
def test_what_decides_the_ids_is_in_the_processors_identity(language_model: Path, key: str) -> None:
    assert key in json.loads(json.dumps(from_folder(language_model).processor.identity()))
