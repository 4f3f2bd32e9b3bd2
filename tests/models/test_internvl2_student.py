"""A released InternVL as the student of a recipe: taken apart, assembled with the same forward, trained, exported to its class again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.export import export_student
from taid_vlm.models.assemble import build_student
from taid_vlm.models.native.internvl2.convert import convert_internvl2
from taid_vlm.models.native.parts import split_into_parts
from taid_vlm.models.processor import Processor
from taid_vlm.models.saved import load_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import teacher_from_checkpoint
from taid_vlm.recipe.source import read_source
from tests.models.internvl2_reference import reference_logits
from tests.tiny.internvl2 import save_original

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]},
    {"role": "assistant", "content": "the thing"},
]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8))


def spec_in(parts: Path, **more: Any) -> StudentSpec:
    content = read_source(parts / "student.yaml").content
    return StudentSpec.model_validate({**content["student"], **more})


def inputs_of(processor: Processor) -> tuple[ModelInputs, list[int]]:
    rendered = processor.render(TALK, sizes=[picture().size])
    rows = [index - 1 for index, said in enumerate(rendered.answer_mask) if said]
    ids = torch.tensor([rendered.ids])
    return ModelInputs(ids, torch.ones_like(ids), torch.tensor(rows), processor.pixel_values([picture()])), rows


@pytest.fixture(scope="module", params=["internlm2", "qwen2"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_assembled_student_has_the_originals_forward_and_the_teachers_ids(kind: str, tmp_path: Path) -> None:
    config, tensors = save_original(tmp_path / "original", kind)
    split_into_parts(str(tmp_path / "original"), tmp_path / "parts")
    student, processor = build_student(spec_in(tmp_path / "parts"))
    inputs, rows = inputs_of(processor)
    assert inputs.pixel_values is not None
    token = student.image_token_id
    assert token is not None
    expected = reference_logits(config, tensors, inputs.input_ids[0], inputs.pixel_values, token)[rows]
    torch.testing.assert_close(student(inputs), expected, rtol=0, atol=1e-5)
    teacher = teacher_from_checkpoint(str(tmp_path / "original"))
    assert teacher.processor.render(TALK, sizes=[picture().size]) == processor.render(TALK, sizes=[picture().size])


@pytest.mark.slow
def test_trained_saved_and_exported_it_is_the_stock_class_again(tmp_path: Path) -> None:
    save_original(tmp_path / "original", text={"max_position_embeddings": 1024})
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    split_into_parts(str(tmp_path / "stock"), tmp_path / "parts")
    spec = spec_in(tmp_path / "parts", train={"language_model": {"mode": "full"}, "projector": {"mode": "frozen"}})
    student, processor = build_student(spec)
    untouched = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    inputs, _ = inputs_of(processor)
    student.train()
    student(inputs).logsumexp(-1).sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-2 * parameter.grad)
    save_student(student, processor, spec, tmp_path / "student")
    loaded = load_student(tmp_path / "student")
    logits = loaded.student(inputs).detach()
    out = export_student(loaded, tmp_path / "exported", "internvl")
    model = AutoModelForImageTextToText.from_pretrained(out.folder).eval()
    first = AutoModelForImageTextToText.from_pretrained(tmp_path / "stock").state_dict()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, first[name])}
    assert changed
    assert all(name.startswith(("model.language_model.", "lm_head")) for name in changed)
    with torch.no_grad():
        found = model(input_ids=inputs.input_ids, pixel_values=inputs.pixel_values).logits[0, inputs.rows]
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
    assert not torch.equal(student.head.weight, untouched["language_model.lm_head.weight"])


def test_the_names_of_earlier_conversions_are_taken_apart_too(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    split_into_parts(str(tmp_path / "stock"), tmp_path / "new")
    file = tmp_path / "stock" / "model.safetensors"
    renamed = {
        name.replace("model.language_model.", "language_model.model.")
        .replace("model.vision_tower", "vision_tower")
        .replace("model.multi_modal_projector", "multi_modal_projector")
        .replace("lm_head", "language_model.lm_head"): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(renamed, file, metadata={"format": "pt"})
    split_into_parts(str(tmp_path / "stock"), tmp_path / "old")
    for part in ("vision_encoder", "projector", "language_model"):
        new, old = (load_file(tmp_path / which / part / "model.safetensors") for which in ("new", "old"))
        assert new.keys() == old.keys()
        assert all(torch.equal(new[name], old[name]) for name in new)


def test_what_cannot_be_taken_apart_is_told(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    file = tmp_path / "stock" / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "adapter.weight": torch.zeros(1)}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"'adapter\.weight'"):
        split_into_parts(str(tmp_path / "stock"), tmp_path / "parts")
    save_file(tensors, file, metadata={"format": "pt"})
    (tmp_path / "stock" / "chat_template.jinja").write_text("{{ messages[0]['content'] | string }}")
    with pytest.raises(UserError, match="asks as none of"):
        split_into_parts(str(tmp_path / "stock"), tmp_path / "parts")
    config = json.loads((tmp_path / "stock" / "config.json").read_text())
    (tmp_path / "stock" / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    with pytest.raises(UserError, match="'llava'"):
        split_into_parts(str(tmp_path / "stock"), tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_projector_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    split_into_parts(str(tmp_path / "original"), tmp_path / "parts")
    file = tmp_path / "parts" / "projector" / "model.safetensors"
    tensors = load_file(file)
    spec = spec_in(tmp_path / "parts")
    save_file({name: tensor for name, tensor in tensors.items() if name != "linear_1.bias"}, file)
    with pytest.raises(UserError, match=r"1 parameters missing \['linear_1.bias'\]"):
        build_student(spec)
    file.unlink()
    with pytest.raises(UserError, match="projector weights not found"):
        build_student(spec)
    build_student(spec, load_weights=False)  # a plan reads none


def test_the_command_writes_a_base_for_recipes(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    out = CliRunner().invoke(app, ["convert", "student", str(tmp_path / "original"), str(tmp_path / "parts")])
    assert out.exit_code == 0, out.output
    written = yaml.safe_load((tmp_path / "parts" / "student.yaml").read_text())
    assert written["student"]["images"] == {"style": "internvl", "tiling": "dynamic", "min_tiles": 1, "max_tiles": 12}
    assert written["student"]["chat_template"] == "internlm2"
    (tmp_path / "recipe.yaml").write_text("base: parts/student.yaml\nteacher: {checkpoint: ./original}\n")
    content = read_source(tmp_path / "recipe.yaml").content
    assert content["student"]["vision_encoder"]["name"] == str(tmp_path / "parts" / "vision_encoder")
