"""The digest of weights misses nothing, and a fingerprint sees what no weight tells."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.models.assemble import build_student
from taid_vlm.models.fingerprint import weights_digest
from taid_vlm.models.saved import save_student
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.teacher import Teacher, teacher_from_checkpoint, teacher_from_language_model
from tests.tiny.language_model import save_tiny_language_model, save_tiny_llama
from tests.tiny.native import save_native


def test_the_digest_sees_every_value_of_every_type() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2).bfloat16())
    seen = {weights_digest(module)}
    for name in ("0.num_batches_tracked", "0.running_mean", "1.weight"):
        module.state_dict()[name].add_(1)
        seen.add(weights_digest(module))
    assert len(seen) == 4


def reset(folder: Path, **changes: Any) -> None:
    """Other values in a config, whose weight file stays as it is."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def language_teacher(folder: Path) -> Teacher:
    return teacher_from_language_model(LanguageModelSpec(source=str(folder)))


ROPE = {"rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}}


@pytest.mark.parametrize("changes", [ROPE, {"rms_norm_eps": 0.5}])
def test_a_setting_that_is_in_no_weight_changes_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = save_tiny_llama(tmp_path / "a")
    before = language_teacher(folder)
    copied = Path(shutil.copytree(folder, tmp_path / "b"))
    reset(copied, _name_or_path="elsewhere", transformers_version="4.0.0")
    assert language_teacher(copied).fingerprint == before.fingerprint
    reset(folder, **changes)
    after = language_teacher(folder)
    assert weights_digest(after.model) == weights_digest(before.model)
    assert after.fingerprint != before.fingerprint


def test_the_scaling_of_logits_changes_it(tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path / "granite", "granite")
    before = language_teacher(folder)
    reset(folder, logits_scaling=8.0)
    after = language_teacher(folder)
    assert before.model.logit_scaling != after.model.logit_scaling
    assert before.fingerprint != after.fingerprint


def test_the_layer_that_a_stock_model_reads_changes_it(tmp_path: Path) -> None:
    folder = save_native(tmp_path / "llava", "llava_next")
    before = teacher_from_checkpoint(str(folder))
    reset(folder, vision_feature_layer=-1)
    after = teacher_from_checkpoint(str(folder))
    assert weights_digest(after.model) == weights_digest(before.model)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("where", ["language model", "encoder"])
def test_the_settings_of_a_saved_student_change_it(tmp_path: Path, where: str) -> None:
    eyes = {"library": "timm", "name": "test_vit", "weights": "random", "image_size": 160, "feature": -1}
    spec = StudentSpec.model_validate(
        {
            "language_model": {"source": str(save_tiny_llama(tmp_path / "llama"))},
            "vision_encoder": eyes,
            "projector": {"name": "mlp"},
            "image_token": "<empty_output>",
        }
    )
    saved = tmp_path / "saved"
    save_student(*build_student(spec), spec, saved)
    before = teacher_from_checkpoint(str(saved))
    assert teacher_from_checkpoint(str(saved)).fingerprint == before.fingerprint
    if where == "encoder":
        about = json.loads((saved / "student.json").read_text())
        about["spec"]["vision_encoder"]["feature"] = -2
        (saved / "student.json").write_text(json.dumps(about))
    else:
        reset(saved / "language_model", **ROPE)
    after = teacher_from_checkpoint(str(saved))
    assert weights_digest(after.model) == weights_digest(before.model)
    assert after.fingerprint != before.fingerprint
