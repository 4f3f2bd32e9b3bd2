"""Several documents in a row give what each gives alone: losses, gradients, and nothing from one to the other."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from taid_vlm.common.errors import UserError
from taid_vlm.data.collate import PaddedSide, pack_sides, pad_sides
from taid_vlm.data.pairing import Side
from taid_vlm.models import Student
from taid_vlm.models.documents import check_documents
from taid_vlm.models.projectors import build_projector
from taid_vlm.models.specs import ProjectorSpec, VisionEncoderSpec
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.vision_encoder import build_vision_encoder
from tests.tiny.language_model import FAMILIES, WINDOW, tiny_language_model

# A family with learned absolute positions beside those with rotary ones.
ABSOLUTE: dict[str, dict[str, Any]] = {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}}
PACKED = [*(family for family in FAMILIES if family != "lfm2"), *ABSOLUTE]
LENGTHS = (3 * WINDOW, 5, 1 + WINDOW, 2, 17)
PER_ROW = [2, 2, 1]
PAD = 2


def made(family: str, attention: str = "sdpa") -> Any:
    if family in ABSOLUTE:
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, vocab_size=264, **ABSOLUTE[family])
        model = AutoModelForCausalLM.from_config(config).eval()
    else:
        model = tiny_language_model(family, layers=4)
    with torch.no_grad():  # random models are so even that a token more or less would hardly show
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    if attention != "sdpa" or model._supports_sdpa:  # Gemma 2 caps its scores, which sdpa cannot
        model.set_attn_implementation(attention)
    return model


def documents() -> list[Side]:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(3, 264, (length,), generator=generator).tolist() for length in LENGTHS]
    return [Side(ids, [row for row in range(len(ids) - 1) if row % 3 != 1]) for ids in drawn]


def inputs(side: PaddedSide, **pictures: Any) -> ModelInputs:
    return ModelInputs(side.input_ids, side.attention_mask, side.rows, position_ids=side.position_ids, **pictures)


def losses(student: Student, side: PaddedSide, **pictures: Any) -> Tensor:
    labels = side.input_ids.flatten()[side.rows + 1]
    return cross_entropy(student(inputs(side, **pictures)), labels, reduction="none")


def gradients(student: Student, loss: Tensor) -> dict[str, Tensor]:
    student.zero_grad()
    loss.sum().backward()
    return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}


def same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert sum(bool(gradient.any()) for gradient in expected.values()) > 0.7 * len(expected)
    for name, gradient in expected.items():
        size = float(gradient.abs().max())
        assert float((found[name] - gradient).abs().max()) <= 2e-5 * size + 2e-5, name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", PACKED)
def test_packed_losses_and_gradients_are_those_of_padded_and_of_single_documents(family: str, attention: str) -> None:
    student = Student(made(family, attention))
    check_documents(student.language_model)
    sides = documents()
    packed = losses(student, pack_sides(sides, PER_ROW, PAD))
    padded = losses(student, pad_sides(sides, PAD))
    alone = torch.cat([losses(student, pad_sides([side], PAD)) for side in sides])
    assert packed.std() > 0.1  # or equal would say little
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    same_gradients(gradients(student, packed), gradients(student, padded))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", PACKED)
@torch.no_grad()
def test_a_token_of_one_document_changes_no_loss_of_another(family: str, attention: str) -> None:
    student = Student(made(family, attention))
    sides = documents()
    before = losses(student, pack_sides(sides, PER_ROW, PAD)).split([len(side.rows) for side in sides])
    for changed in range(len(sides)):
        ids = list(sides[changed].ids)
        ids[0] = 3 + (ids[0] + 100) % 261
        others = [Side(ids, side.rows) if i == changed else side for i, side in enumerate(sides)]
        after = losses(student, pack_sides(others, PER_ROW, PAD)).split([len(side.rows) for side in sides])
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if index == changed:
                assert (old - new).abs().max() > 1e-4
            else:
                assert torch.equal(old, new)


def test_half_precision_is_tried_with_its_own_tolerance() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_documents(made("qwen3"))
    check_documents(made("gemma3_text").bfloat16())


@torch.no_grad()
def test_the_test_would_see_documents_that_see_each_other() -> None:
    student = Student(made("llama"))
    sides = documents()
    packed, padded = pack_sides(sides, PER_ROW, PAD), pad_sides(sides, PAD)
    naive = PaddedSide(packed.input_ids, packed.attention_mask, packed.rows)
    assert (losses(student, naive) - losses(student, padded)).abs().max() > 1e-2


@torch.no_grad()
def test_an_attention_without_masks_gets_all_documents_in_one_row() -> None:
    student = Student(made("llama"))
    sides, seen = documents(), []
    expected = losses(student, pack_sides(sides, PER_ROW, PAD))
    model: Any = student.language_model
    config, backbone = model.config, model.base_model
    # Flash attention needs a GPU: what it would be given is given to sdpa.
    config._attn_implementation = "flash_attention_2"

    def look(_: Any, __: Any, given: dict[str, Any]) -> None:
        seen.append((given["inputs_embeds"].shape[:2], given["position_ids"].shape))
        config._attn_implementation = "sdpa"

    backbone.register_forward_pre_hook(look, with_kwargs=True)
    torch.testing.assert_close(losses(student, pack_sides(sides, PER_ROW, PAD)), expected, rtol=1e-5, atol=1e-5)
    size = len(PER_ROW) * sum(LENGTHS[:2])
    assert seen == [((1, size), (1, size))]


def test_layers_with_a_state_are_refused_by_their_kind() -> None:
    with pytest.raises(
        UserError, match=r"family 'lfm2' cannot be packed: it has layers of kind conv.*batching: grouped"
    ):
        check_documents(tiny_language_model("lfm2"))
    with torch.device("meta"), pytest.raises(UserError, match="layers of kind conv"):
        check_documents(tiny_language_model("lfm2"))
    with torch.device("meta"):
        check_documents(tiny_language_model("gemma2"))


def mamba() -> Any:
    config = AutoConfig.for_model("mamba", vocab_size=264, hidden_size=32, state_size=4, num_hidden_layers=2)
    return AutoModelForCausalLM.from_config(config)


def bloom() -> Any:
    config = AutoConfig.for_model("bloom", vocab_size=264, hidden_size=32, n_layer=2, n_head=4)
    return AutoModelForCausalLM.from_config(config)


def opt() -> Any:
    """It takes position ids, but does not hand them on to the mask."""
    options = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("opt", vocab_size=264, word_embed_proj_dim=32, **options)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", [mamba, bloom, opt])
def test_families_that_do_not_know_documents_are_found_by_trying(family: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(UserError, match=f"family '{family.__name__}' cannot be packed"):
        check_documents(family())


def test_a_model_that_heeds_no_mask_or_no_positions_is_found_by_trying() -> None:
    blind = made("llama")
    for layer in blind.base_model.layers:
        layer.register_forward_pre_hook(
            lambda _, args, given: (args, {**given, "attention_mask": None}), with_kwargs=True
        )
    with pytest.raises(UserError, match="lets one document see the one before it"):
        check_documents(blind)
    counts = made("gpt2")
    counts.base_model.wpe.register_forward_pre_hook(lambda _, args: (torch.arange(args[0].shape[-1]).unsqueeze(0),))
    with pytest.raises(UserError, match="does not begin its positions again"):
        check_documents(counts)
    assert not counts.training


@pytest.fixture(scope="module")
def looks() -> Student:
    torch.manual_seed(0)
    spec = VisionEncoderSpec(library="timm", name="test_resnet", weights="random", image_size=64)
    encoder = build_vision_encoder(spec)
    projector = build_projector(ProjectorSpec(), encoder.contract, 32, 1.0)
    return Student(made("llama"), encoder, projector, 3).eval()


def test_pictures_go_to_their_document_wherever_it_stands(looks: Student) -> None:
    sides = documents()
    for index, tiles in ((0, 2), (2, 1), (4, 1)):
        ids = sides[index].ids
        words = [4 if token == 3 else token for token in ids]
        sides[index] = Side([*words[:1], *[3] * (4 * tiles), *words[1 + 4 * tiles :]], [len(ids) - 2])
    sides = [
        side if i in (0, 2, 4) else Side([4 if t == 3 else t for t in side.ids], side.rows)
        for i, side in enumerate(sides)
    ]
    pixels = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    packed = losses(looks, pack_sides(sides, PER_ROW, PAD), pixel_values=pixels)
    padded = losses(looks, pad_sides(sides, PAD), pixel_values=pixels)
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    same_gradients(gradients(looks, packed), gradients(looks, padded))
    other = losses(looks, pack_sides(sides, PER_ROW, PAD), pixel_values=pixels.flip(0))
    assert (other - packed).abs().max() > 1e-4
