"""Where the teacher is does not change what it says: shards over two processes, layers that come and go, quantized layers."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student
from taid_vlm.models.repeated import language_layers
from taid_vlm.models.saved import save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher, teacher_from_checkpoint
from taid_vlm.recipe import dump_recipe
from taid_vlm.recipe.schema import Recipe
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training import train
from taid_vlm.training.placement import place_teacher, share_teacher
from taid_vlm.training.placement.in_step import InStep
from taid_vlm.training.placement.offload import offload_layers
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.native import MAKERS, save_native, save_native_tokenizer_llama
from tests.tiny.recipes import logged_steps, tiny_recipe
from tests.training.placement_worker import LOOKS, READS, SHORT, TURNS, inputs_of

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def save_teacher(folder: Path, kind: str) -> Path:
    """A stock model of a family, or a saved student with an encoder, with tied embeddings or not, or a plain language model."""
    if kind in MAKERS:
        return save_native(folder / kind, kind)
    words = save_tiny_llama(folder / "llama", tied=kind == "tied")
    content: dict[str, Any] = {"language_model": {"source": str(words)}}
    if kind != "words":
        content |= {
            "vision_encoder": {"library": "timm", "name": "tiny_siglip", "weights": "random", "image_size": 32},
            "projector": {"name": "mlp"},
            "image_token": "<empty_output>",
        }
    spec = StudentSpec.model_validate(content)
    student, processor = build_student(spec)
    save_student(student, processor, spec, folder / kind)
    return folder / kind


def said(teacher: Teacher, conversations: Any) -> torch.Tensor:
    return teacher.hidden(inputs_of(teacher, conversations))


@pytest.mark.slow
def test_a_teacher_in_shards_says_what_a_whole_one_says(tmp_path: Path) -> None:
    kinds = ("tied", "untied", "words", "qwen2_5_vl", "internvl", "smolvlm")
    checkpoints = [save_teacher(tmp_path / kind, kind) for kind in kinds]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "tests.training.placement_worker", *map(str, checkpoints)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "[rank0]" in line][-8:]
    for checkpoint, rank in itertools.product(checkpoints, range(2)):
        whole = teacher_from_checkpoint(str(checkpoint))
        found = torch.load(checkpoint / f"rank{rank}.pt", weights_only=True)
        asked = {str(turn): by_rank[rank] for turn, by_rank in enumerate(TURNS) if by_rank[rank] is not None}
        assert found.keys() == {*asked, "share"}
        for turn, conversations in asked.items():
            expected = said(whole, conversations)
            torch.testing.assert_close(found[turn], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        head = whole.head_weight.numel() / sum(p.numel() for p in whole.model.parameters())
        # The head whole, and half of the rest; a shard may be padded by a row.
        assert float(found["share"]) < head + 0.56 * (1 - head)


@pytest.mark.parametrize("kind", ["tied", "words", *MAKERS])
def test_an_idle_sequence_changes_nothing_for_the_others(tmp_path: Path, kind: str) -> None:
    teacher = teacher_from_checkpoint(str(save_teacher(tmp_path, kind)))
    complete = InStep(teacher, CPU, teacher.sees)
    asked: list[Any] = [[SHORT], [READS, SHORT], *([[LOOKS, SHORT]] if teacher.sees else [])]
    for conversations in asked:
        inputs = inputs_of(teacher, conversations)
        expected = teacher.model.hidden(inputs)
        completed = complete(inputs)
        torch.testing.assert_close(teacher.model.hidden(completed), expected, rtol=1e-5, atol=1e-5)
        alone = complete(None)
        assert teacher.model.hidden(alone).shape == (0, expected.shape[1])
        for some in (completed, alone):
            tensors = getattr(some, "tensors", {"pixel_values": getattr(some, "pixel_values", None)})
            assert (tensors.get("pixel_values") is not None) == teacher.sees


def test_packed_rows_stay_documents_beside_an_idle_one(tmp_path: Path) -> None:
    teacher = teacher_from_checkpoint(str(save_teacher(tmp_path, "tied")))
    inputs = inputs_of(teacher, [SHORT, READS])
    ids = torch.cat([inputs.input_ids[1], inputs.input_ids[0, :9]]).unsqueeze(0)
    positions = torch.cat([torch.arange(inputs.input_ids.shape[1]), torch.arange(9)]).unsqueeze(0)
    packed = type(inputs)(ids, torch.ones_like(ids), torch.arange(ids.shape[1]), position_ids=positions)
    expected = teacher.model.hidden(packed)
    complete = InStep(teacher, CPU, looks=True)
    torch.testing.assert_close(teacher.model.hidden(complete(packed)), expected, rtol=1e-5, atol=1e-5)
    narrow = type(inputs)(ids[:, -9:], torch.ones(1, 9).long(), torch.arange(9), position_ids=positions[:, -9:])
    expected = teacher.model.hidden(narrow)
    torch.testing.assert_close(teacher.model.hidden(complete(narrow)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["tied", "untied", "qwen2_5_vl", "smolvlm"])
def test_layers_that_come_and_go_say_the_same_bits(tmp_path: Path, kind: str) -> None:
    checkpoint = save_teacher(tmp_path, kind)
    whole, parted = teacher_from_checkpoint(str(checkpoint)), teacher_from_checkpoint(str(checkpoint))
    offload_layers(parted.model, CPU)
    layers = language_layers(parted.model)
    for _ in range(2):
        assert len(layers) >= 2
        assert all(p.is_meta for layer in layers for p in layer.parameters())
        for conversations in ([LOOKS, READS], [SHORT]):
            assert torch.equal(said(parted, conversations), said(whole, conversations))
    assert torch.equal(parted.head_weight, whole.head_weight)
    assert parted.answers([SHORT], [[]], 4) == whole.answers([SHORT], [[]], 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["tied", "qwen2_5_vl"])
def test_offload_to_a_gpu_holds_one_layer(tmp_path: Path, kind: str) -> None:
    checkpoint = save_teacher(tmp_path, kind)
    device = torch.device("cuda")
    whole, parted = teacher_from_checkpoint(str(checkpoint)), teacher_from_checkpoint(str(checkpoint))
    place_teacher(parted, TeacherSpec(checkpoint=str(checkpoint), placement="offload"), device, print)
    whole.model.to(device)
    inputs = inputs_of(whole, [LOOKS, READS]).to(device)
    torch.testing.assert_close(parted.hidden(inputs), whole.hidden(inputs))
    assert all(p.is_meta for layer in language_layers(parted.model) for p in layer.parameters())


def test_what_does_nothing_here_is_said(tmp_path: Path) -> None:
    checkpoint = save_teacher(tmp_path, "words")
    for placement, message in (("offload", "nothing on a CPU"), ("sharded", "nothing on one process")):
        teacher, told = teacher_from_checkpoint(str(checkpoint)), list[str]()
        expected = said(teacher, [READS])
        spec = TeacherSpec(checkpoint=str(checkpoint), placement=placement)
        place_teacher(teacher, spec, CPU, told.append)
        share_teacher(teacher, spec, CPU, 1, told.append, looks=False)
        assert len(told) == 1
        assert message in told[0]
        assert torch.equal(said(teacher, [READS]), expected)
        teacher.idle()


@pytest.mark.parametrize("kind", ["tied", "qwen2_5_vl"])
@pytest.mark.parametrize(
    ("quantization", "package", "error"), [("int8", "torchao", 0.02), ("nf4", "bitsandbytes", 0.5)]
)
def test_quantized_layers_are_near_and_the_rest_is_as_it_was(
    tmp_path: Path, kind: str, quantization: Any, package: str, error: float
) -> None:
    pytest.importorskip(package, reason=f"{package} is an optional package")
    checkpoint = save_teacher(tmp_path, kind)
    whole, told = teacher_from_checkpoint(str(checkpoint)), list[str]()
    small = teacher_from_checkpoint(str(checkpoint))
    spec = TeacherSpec(checkpoint=str(checkpoint), placement="quantized", quantization=quantization)
    place_teacher(small, spec, CPU, told.append)
    assert "approximate" in told[0]
    assert small.fingerprint != whole.fingerprint
    expected = said(whole, [LOOKS, READS])
    distance = float((said(small, [LOOKS, READS]) - expected).norm() / expected.norm())
    assert 0 < distance < error
    kept = dict(whole.model.named_parameters())
    layers = {id(p) for layer in language_layers(small.model) for p in layer.parameters()}
    others = {name: p for name, p in small.model.named_parameters() if id(p) not in layers}
    assert any("embed_tokens" in name for name in others)
    for name, parameter in others.items():
        assert torch.equal(parameter, kept[name]), name
    assert torch.equal(small.head_weight, whole.head_weight)


@pytest.mark.parametrize(
    ("quantization", "package"), [("int8", "torchao"), ("int4", "torchao"), ("nf4", "bitsandbytes")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: Any, package: str
) -> None:
    checkpoint = save_teacher(tmp_path, "words")
    for name in (package, f"{package}.nn", f"{package}.quantization"):
        monkeypatch.setitem(sys.modules, name, None)
    spec = TeacherSpec(checkpoint=str(checkpoint), placement="quantized", quantization=quantization)
    teacher = teacher_from_checkpoint(str(checkpoint))
    with pytest.raises(UserError, match=f"teacher.quantization: {quantization} .*pip install {package}"):
        place_teacher(teacher, spec, CPU, print)


def test_the_dtype_of_a_teacher_is_part_of_its_fingerprint(tmp_path: Path) -> None:
    checkpoint = str(save_teacher(tmp_path, "qwen2_5_vl"))
    prints = {teacher_from_checkpoint(checkpoint, dtype=dtype).fingerprint for dtype in (torch.float32, torch.bfloat16)}
    assert len(prints) == 2


def test_recipes_that_cannot_work_are_refused(language_model: Path, easy_vqa: Path) -> None:
    for teacher, message in (
        ({"placement": "quantized"}, "go together"),
        ({"quantization": "int8"}, "go together"),
        ({"placement": "sharded", "cache": {"enabled": True}}, "processes fill a cache each at its own pace"),
    ):
        with pytest.raises(ValueError, match=message):
            TeacherSpec.model_validate({"checkpoint": "a/b", **teacher})
    content = tiny_recipe(language_model, easy_vqa).model_dump()
    content["teacher"] = {"checkpoint": "a/b", "placement": "sharded"}
    content["data"]["answers"] = "teacher"
    with pytest.raises(ValueError, match="processes write each at its own pace"):
        Recipe.model_validate(content)


def test_a_teacher_is_a_student_or_a_stock_model(tmp_path: Path) -> None:
    """Both kinds are what the tests above go through."""
    assert isinstance(teacher_from_checkpoint(str(save_teacher(tmp_path, "tied"))).model, Student)
    assert not isinstance(teacher_from_checkpoint(str(save_teacher(tmp_path, "internvl"))).model, Student)


@pytest.mark.slow
def test_two_processes_that_share_the_teacher_train_as_one_that_has_it_whole(tmp_path: Path, easy_vqa: Path) -> None:
    checkpoint = save_native(tmp_path / "teacher", "internvl")
    words = save_native_tokenizer_llama(tmp_path / "words", "internvl")
    content: dict[str, Any] = {
        "student": {**tiny_recipe(words, easy_vqa).student.model_dump(), "chat_template": "chatml"},
        "loss": {"name": "taid", "alpha_total": 20.0, "mass_rows": 0},
        "training": {
            "steps": 3,
            "batch_size": 4,
            "micro_batch_size": 2,
            "lr": 5e-3,
            "precision": "fp32",
            "trackers": [],
        },
    }
    whole = tiny_recipe(words, easy_vqa, **content, teacher={"checkpoint": str(checkpoint)})
    shared = tiny_recipe(words, easy_vqa, **content, teacher={"checkpoint": str(checkpoint), "placement": "sharded"})
    train(whole, tmp_path / "one")
    (tmp_path / "two.yaml").write_text(dump_recipe(shared))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "taid_vlm", "train", "two.yaml", "--output", "two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "[rank0]" in line][-8:]
    one, two = logged_steps(tmp_path / "one"), logged_steps(tmp_path / "two")
    assert len(one) == len(two) == 3
    for left, right in zip(one, two, strict=True):
        for name in ("loss", "kl_teacher", "teacher_entropy", "grad_norm", "t", "rows"):
            assert right[name] == pytest.approx(left[name], rel=2e-4, abs=1e-6), name
