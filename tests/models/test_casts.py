"""Frozen weights cast once give the bits that autocast gives by casting them in every forward."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.models.casts import FrozenCast, cast_layers
from taid_vlm.models.native.loading import open_native
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.training.precision import autocast
from tests.tiny.language_model import tiny_llama
from tests.tiny.native import save_native

CPU = torch.device("cpu")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def words() -> ModelInputs:
    ids = torch.randint(4, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    return ModelInputs(ids, torch.ones_like(ids), torch.tensor([3, 4, 13, 16]))


@pytest.mark.parametrize("precision", DTYPES)
def test_hidden_states_of_our_model(precision: str) -> None:
    model = Student(tiny_llama(layers=2)).requires_grad_(False).eval()
    with autocast(CPU, precision):
        before = model.hidden(words())
        cast_layers(model, DTYPES[precision])
        after = model.hidden(words())
    assert torch.equal(before, after)
    dtypes = {
        module.weight.dtype for module in model.language_model.model.layers.modules() if type(module) is nn.Linear
    }
    assert dtypes == {DTYPES[precision]}
    assert model.head.weight.dtype == torch.float32
    assert model.language_model.get_input_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl", "smolvlm", "llava_onevision", "gemma3"])
def test_hidden_states_of_stock_models(tmp_path: Path, family: str) -> None:
    model, processor = open_native(str(save_native(tmp_path / "teacher", family)))
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    asked = processor.render(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hello"}]}], True, [picture.size]
    )
    ids = torch.tensor([asked.ids])
    inputs = processor.inputs(ids, torch.ones_like(ids), torch.tensor([len(asked.ids) - 1]), [[picture]])
    with torch.no_grad(), autocast(CPU, "bf16"):
        before = model.hidden(inputs)
        cast_layers(model, torch.bfloat16)
        after = model.hidden(inputs)
    assert torch.equal(before, after)


def test_a_frozen_head() -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(50, 8, generator=generator)
    labels = torch.tensor([1, 2, 3])
    cast, found = FrozenCast(), []
    for weight in (lambda: head, lambda: cast(head)):
        hidden = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with autocast(CPU, "bf16"):
            teacher = {"teacher_hidden_ND": hidden.detach() + 1, "teacher_head_UD": weight()}
            out = distillation_loss(hidden, weight(), labels, spec=LossSpec.of("taid"), t=0.5, **teacher)
        out.loss.backward()
        found.append((out.loss.detach(), hidden.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    with autocast(CPU, "bf16"):
        assert cast(head) is cast(head)
        assert cast(head).dtype == torch.bfloat16
        learning = nn.Parameter(head)
        assert cast(learning) is learning
    assert cast(head) is head  # without autocast
