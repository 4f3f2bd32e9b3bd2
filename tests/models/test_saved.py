"""What is saved comes back bit for bit, full or trained parts only; a folder that does not fit is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models import Student, build_student, load_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs


def spec(language_model: Path, train: dict[str, Any] | None = None, **changes: Any) -> StudentSpec:
    content = {
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model), "layers": [2, 0]},
        "image_token": "<empty_output>",
        "train": train or {},
    }
    return StudentSpec.model_validate({**content, **changes})


def disturb(student: Student) -> None:
    """Stands for training: every tensor that learns moves, batch norm sees data."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    student.train()
    assert student.vision_encoder is not None
    student.vision_encoder(torch.randn(4, 3, 64, 64))
    student.eval()


def logits(student: Student) -> torch.Tensor:
    image = student.image_token_id
    ids = torch.tensor([[5, image, image, image, image, 9, 10]])
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return student(ModelInputs(ids, torch.ones_like(ids), torch.arange(7), pixels))


ALL = {
    "vision_encoder": {"mode": "full"},
    "projector": {"mode": "full"},
    "language_model": {"mode": "full"},
}


@pytest.mark.parametrize("weights", ["full", "trained"])
@pytest.mark.parametrize("trained", [ALL, {"language_model": {"mode": "frozen"}}], ids=["all", "projector"])
def test_a_reload_has_the_same_bits(tmp_path: Path, language_model: Path, weights: Any, trained: Any) -> None:
    made = spec(language_model, trained)
    student, processor = build_student(made)
    fresh = logits(student)
    disturb(student)
    expected = logits(student)
    assert not torch.allclose(expected, fresh)
    save_student(student, processor, made, tmp_path / "saved", weights=weights)
    loaded = load_student(tmp_path / "saved")
    assert torch.equal(logits(loaded.student), expected)
    for name, tensor in student.state_dict().items():
        assert torch.equal(loaded.student.state_dict()[name], tensor), name
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    assert loaded.processor.render(messages) == processor.render(messages)
    assert not loaded.student.training


def test_full_stands_alone_and_trained_is_small(tmp_path: Path, language_model: Path) -> None:
    base = shutil.copytree(language_model, tmp_path / "base")
    made = spec(base, {"language_model": {"mode": "frozen"}})
    student, processor = build_student(made)
    for weights in ("full", "trained"):
        save_student(student, processor, made, tmp_path / weights, weights=weights)  # type: ignore[arg-type]
    sizes = [(tmp_path / weights / "model.safetensors").stat().st_size for weights in ("full", "trained")]
    assert sizes[1] < 0.3 * sizes[0]
    shutil.rmtree(base)
    assert torch.equal(logits(load_student(tmp_path / "full").student), logits(student))
    with pytest.raises(UserError, match="folder not found"):
        load_student(tmp_path / "trained")


def test_a_tied_head_is_stored_once_and_stays_tied(tmp_path: Path, language_model: Path) -> None:
    from safetensors.torch import load_file

    made = spec(language_model)
    save_student(*build_student(made), made, tmp_path / "saved")
    names = load_file(tmp_path / "saved" / "model.safetensors")
    assert sum("embed_tokens" in name or "lm_head" in name for name in names) == 1
    student: Any = load_student(tmp_path / "saved").student
    assert student.head.weight is student.language_model.get_input_embeddings().weight


def change(folder: Path, **about: Any) -> None:
    file = folder / "student.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **about}))


def test_what_does_not_fit_is_refused(tmp_path: Path, language_model: Path) -> None:
    made = spec(language_model)
    save_student(*build_student(made), made, tmp_path / "saved")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "saved", tmp_path / name))

    other = copy("other")
    change(other, spec=spec(language_model, projector={"name": "linear"}).model_dump(mode="json"))
    with pytest.raises(UserError, match=r"do not fit: 2 missing \['projector\.linear\.bias'.*4 unknown"):
        load_student(other)
    change(later := copy("later"), format=2)
    with pytest.raises(UserError, match=r"format 2, this version reads 1"):
        load_student(later)
    (cut := copy("cut") / "student.json").write_text("{")
    with pytest.raises(UserError, match=r"student\.json is damaged"):
        load_student(cut.parent)
    (copy("empty") / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        load_student(tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        load_student(tmp_path / "gone")
