"""A teacher is frozen, speaks as the model it was loaded from, and its fingerprint follows what decides its words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from transformers import AutoModelForCausalLM

from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import Teacher, teacher_from_language_model, teacher_from_saved
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


LORA = {"language_model": {"mode": "lora", "lora": {"rank": 2, "alpha": 4}}}


def save_encoder(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), path)


def retold(folder: Path, **changes: Any) -> None:
    """Other values in the spec of a saved student, whose weight file stays as it is."""
    file = folder / "student.json"
    about = json.loads(file.read_text())
    for keys, value in changes.items():
        *path, last = keys.split("__")
        place = about["spec"]
        for key in path:
            place = place[key]
        place[last] = value
    file.write_text(json.dumps(about))


@pytest.mark.parametrize("change", ["base", "encoder", "layers", "alpha"])
def test_the_fingerprint_of_trained_parts_changes_with_what_completes_them(tmp_path: Path, change: str) -> None:
    base = save_tiny_llama(tmp_path / "base")
    save_encoder(tmp_path / "encoder.pth", seed=0)
    weights = str(tmp_path / "encoder.pth")
    eyes = {"library": "timm", "name": "test_resnet", "weights": weights, "image_size": 64}
    content = {"vision_encoder": eyes, "projector": {"name": "mlp"}, "image_token": "<empty_output>", "train": LORA}
    spec = StudentSpec.model_validate({**content, "language_model": {"source": str(base), "layers": [0, 1]}})
    student, processor = build_student(spec)
    for name, parameter in student.named_parameters():
        if "lora_B" in name:  # zero at the start, which hides the scale
            torch.nn.init.ones_(parameter)
    saved = tmp_path / "saved"
    save_student(student, processor, spec, saved, weights="trained")
    before = teacher_from_saved(str(saved)).fingerprint
    assert teacher_from_saved(str(saved)).fingerprint == before
    if change == "base":
        save_tiny_llama(base, seed=1)
    elif change == "encoder":
        save_encoder(tmp_path / "encoder.pth", seed=1)
    elif change == "layers":
        retold(saved, language_model__layers=[0, 2])
    else:
        retold(saved, train__language_model__lora__alpha=8)
    assert teacher_from_saved(str(saved)).fingerprint != before


@pytest.mark.parametrize("key", ["template", "images", "vocabulary"])
def test_what_decides_the_ids_is_in_the_processors_identity(language_model: Path, key: str) -> None:
    assert key in json.loads(json.dumps(from_folder(language_model).processor.identity()))
