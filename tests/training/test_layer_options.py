"""Options that change how layers are run: the same values and gradients as without, and what they are for happens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models import Student, build_student
from taid_vlm.models.repeated import language_layers, vision_layers
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.recipe.training_spec import TrainingSpec
from taid_vlm.training import layer_options
from taid_vlm.training.layer_options import checkpointed, offloaded, wrap_layers
from tests.tiny.language_model import FAMILIES, save_tiny_language_model
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers

CPU = torch.device("cpu")
LORA = {"mode": "lora", "lora": {"rank": 2, "alpha": 4, "dropout": 0.5, "targets": "all"}}


def training(**options: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({"steps": 1, "batch_size": 1, "lr": 1e-3, **options})


def made(words: Path, encoder: dict[str, Any], train: dict[str, Any] | None = None) -> Student:
    content = {
        "vision_encoder": {"weights": "random", "image_size": 32, **encoder},
        "projector": {"name": "mlp"},
        "language_model": {"source": str(words)},
        "image_token": "<empty_output>",
        "train": {"vision_encoder": {"mode": "full"}, **(train or {})},
    }
    return build_student(StudentSpec.model_validate(content))[0].train()


def gradients(student: Student, seed: int = 0) -> dict[str, Tensor]:
    """Of a batch with two pictures and some words; the loss too."""
    assert student.vision_encoder is not None
    size = student.vision_encoder.contract.image.size
    tokens = student.projector.tokens_out()  # type: ignore[operator, union-attr]
    ids = torch.tensor([[5, *[student.image_token_id] * tokens, 9, 10], [*[student.image_token_id] * tokens, 7, 8, 6]])
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(ids.numel()), pixels)
    student.zero_grad()
    torch.manual_seed(seed)  # dropout
    loss = weighted(student.hidden(inputs))
    loss.backward()
    return {"loss": loss.detach(), **{n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}}


def weighted(states: Tensor) -> Tensor:
    """A loss; a sum of squares would be the same for all states, for they are normed."""
    return (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(2)).to(states)).sum()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


class Counted:
    """How often modules were run."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.runs = 0
        for module in modules:
            module.register_forward_hook(self)

    def __call__(self, *_: Any) -> None:
        self.runs += 1


def inner(layers: list[nn.Module]) -> list[nn.Module]:
    """One module inside of each layer: hooks of a layer itself stay outside of what is run again."""
    leaves = [[m for m in layer.modules() if not list(m.children()) and list(m.parameters())] for layer in layers]
    return [found[0] for found in leaves]


@pytest.mark.parametrize(
    "train",
    [
        {"language_model": {"mode": "full"}},
        {"language_model": LORA, "vision_encoder": LORA},
        {"language_model": {"mode": "frozen"}, "vision_encoder": {"mode": "frozen"}},
    ],
    ids=["full", "lora with dropout", "projector"],
)
def test_checkpointed_layers_are_run_twice_and_give_the_same_bits(language_model: Path, train: dict[str, Any]) -> None:
    student = made(language_model, {"library": "timm", "name": "tiny_siglip"}, train)
    plain = gradients(student)
    assert wrap_layers(student, training(gradient_checkpointing=True), CPU) == []
    words, sights = Counted(inner(language_layers(student))), Counted(inner(vision_layers(student)))
    same(plain, gradients(student))
    assert words.runs == 2 * len(language_layers(student))
    trained = any(p.requires_grad for p in student.vision_encoder.parameters())  # type: ignore[union-attr]
    assert sights.runs == (2 if trained else 1) * len(vision_layers(student))
    with torch.no_grad():
        student.language_model(torch.tensor([[1, 2, 3]]))
    assert words.runs == 3 * len(language_layers(student))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_checkpointed(tmp_path: Path, family: str) -> None:
    folder = save_tiny_language_model(tmp_path / family, family, layers=4)
    spec = {"language_model": {"source": str(folder)}, "train": {"language_model": {"mode": "full"}}}
    student = build_student(StudentSpec.model_validate(spec))[0].train()
    found = []
    ids = torch.arange(20).view(2, 10)
    for option in (False, True):
        wrap_layers(student, training(gradient_checkpointing=option), CPU)
        student.zero_grad()
        weighted(student.hidden(ModelInputs(ids, torch.ones_like(ids), torch.arange(20)))).backward()
        found.append({n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None})
    same(*found)


@pytest.mark.parametrize(
    ("library", "name"), [("open_clip", "vit"), ("transformers", "siglip"), ("timm", "tiny_dinov3")]
)
@pytest.mark.parametrize("feature", ["normed", -2])
def test_every_library_can_be_checkpointed(
    tmp_path: Path, language_model: Path, library: str, name: str, feature: str | int
) -> None:
    if library == "open_clip":
        name = add_tiny_open_clip(tmp_path, name)
    elif library == "transformers":
        name = str(save_tiny_transformers(tmp_path / name, name))
    student = made(language_model, {"library": library, "name": name, "feature": feature})
    sights = Counted(inner(vision_layers(student)))
    plain = gradients(student)
    once, sights.runs = sights.runs, 0
    wrap_layers(student, training(gradient_checkpointing=True), CPU)
    same(plain, gradients(student))
    assert once < sights.runs <= 2 * once  # blocks behind the one that is read are not run again


def test_blocks_with_batch_norm_are_left_out(language_model: Path) -> None:
    def trained() -> Student:
        return made(language_model, {"library": "timm", "name": "test_resnet", "image_size": 64})

    plain, wrapped = trained(), trained()
    wrapped.load_state_dict(plain.state_dict())
    notes = wrap_layers(wrapped, training(gradient_checkpointing=True), CPU)
    assert len(notes) == bool(vision_layers(wrapped))
    same(gradients(plain), gradients(wrapped))
    for (name, one), other in zip(plain.named_buffers(), wrapped.buffers(), strict=True):
        assert torch.equal(one, other), name


def saved_by(forward: Any, x: Tensor) -> int:
    """Elements that autograd keeps for the backward."""
    sizes = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(x)
    return sum(sizes)


def test_what_is_kept_is_a_layer_s_input() -> None:
    layer = nn.Sequential(*[nn.Linear(8, 8), nn.GELU()] * 6)
    x = torch.randn(100, 8, requires_grad=True)
    assert saved_by(checkpointed(layer), x) <= x.numel() + 8 < saved_by(layer, x)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_activations_go_and_come_back_and_weights_stay(monkeypatch: pytest.MonkeyPatch, checkpoint: bool) -> None:
    monkeypatch.setattr(layer_options, "SMALL", 100)
    layer = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
    x = torch.randn(50, 64, requires_grad=True)
    layer(x).pow(2).sum().backward()
    plain = [p.grad.clone() for p in (*layer.parameters(), x) if p.grad is not None]
    layer.zero_grad()
    x.grad = None
    copies: list[tuple[int, ...]] = []
    empty_like = torch.empty_like

    def counted(tensor: Tensor, **options: Any) -> Tensor:
        copies.append(tuple(tensor.shape))
        return empty_like(tensor, **options)

    monkeypatch.setattr(torch, "empty_like", counted)
    forward = offloaded(checkpointed(layer) if checkpoint else layer, CPU)
    forward(x).pow(2).sum().backward()
    for one, other in zip(plain, [p.grad for p in (*layer.parameters(), x)], strict=True):
        assert other is not None
        assert torch.equal(one, other)
    assert copies == [(50, 64)] if checkpoint else copies.count((50, 64)) >= 3
    assert (64, 64) not in copies


def test_offload_says_that_a_cpu_has_nowhere_to_offload_to(language_model: Path) -> None:
    student = made(language_model, {"library": "timm", "name": "tiny_siglip"})
    notes = wrap_layers(student, training(activation_offload=True), CPU)
    assert len(notes) == 1
    assert "activation_offload does nothing on a CPU" in notes[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_offload_on_a_gpu_gives_the_same_gradients(language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_options, "SMALL", 1)
    device = torch.device("cuda")
    student = made(language_model, {"library": "timm", "name": "tiny_siglip"}).to(device)
    ids = torch.arange(20, device=device).view(2, 10)
    inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(20, device=device))
    found = []
    for option in (False, True):
        wrap_layers(student, training(activation_offload=option), device)
        student.zero_grad()
        weighted(student.hidden(inputs)).backward()
        found.append({n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_compiled_layers_agree_and_are_compiled_once_for_all_lengths(language_model: Path, checkpoint: bool) -> None:
    spec = {"language_model": {"source": str(language_model)}, "train": {"language_model": {"mode": "full"}}}
    student = build_student(StudentSpec.model_validate(spec))[0].train()
    found: list[dict[str, Tensor]] = []
    names = list(student.state_dict())
    for option in (False, True):
        wrap_layers(student, training(compile=option, gradient_checkpointing=option and checkpoint), CPU)
        for length in (12, 9, 17):
            ids = torch.arange(2 * length).view(2, length)
            mask = torch.ones_like(ids)
            mask[1, length - 3 :] = 0
            student.zero_grad()
            weighted(student.hidden(ModelInputs(ids, mask, torch.arange(length)))).backward()
            found.append({n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None})
    for plain, compiled in zip(found[:3], found[3:], strict=True):
        assert plain.keys() == compiled.keys()
        for name, value in plain.items():
            torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-5 * float(value.abs().max()))
    assert list(student.state_dict()) == names


def test_a_missing_compiler_is_named(language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nlong trace")

    monkeypatch.setattr(torch, "compile", fails)
    student = made(language_model, {"library": "timm", "name": "tiny_siglip"})
    with pytest.raises(
        UserError, match=r"needs a C\+\+ compiler .* failed: No working C\+\+ compiler found. Install it"
    ):
        wrap_layers(student, training(compile=True), CPU)
