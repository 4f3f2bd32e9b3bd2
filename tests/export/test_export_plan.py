"""What the plan says of a student, from facts alone."""

from dataclasses import replace
from typing import Any

import pytest

from taid_vlm.export.facts import Facts
from taid_vlm.export.plan import gguf_refusal, plan_of
from taid_vlm.export.targets import TARGETS
from taid_vlm.export.targets.smolvlm import positions_are_exact
from taid_vlm.models.logit_scaling import LogitScaling
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.vision_encoder import EncoderContract, ImageInput

IMAGE = ImageInput(224, (0.5,) * 3, (0.5,) * 3, "bicubic")
SIGLIP = Facts(
    text="llama",
    tied=True,
    scaling=LogitScaling(),
    head_bias=False,
    image_token="<image>",
    contract=EncoderContract(768, (14, 14), IMAGE, family="siglip_vision_model"),
    towers=("siglip_vision_model", "smolvlm_vision", "siglip2_vision_model"),
    projector="pixel_shuffle_linear",
    native_classes=("smolvlm", "idefics3"),
    images=ImagesSpec(style="smolvlm"),
    tokens=("<fake_token_around_image>", "<global-img>"),
)


def verdicts(facts: Facts) -> dict[str, Any]:
    return {verdict.runtime: verdict for verdict in plan_of(facts).runtimes}


def test_siglip_pixel_shuffle_linear_and_llama_load_everywhere() -> None:
    plan = plan_of(SIGLIP)
    assert plan.target == "smolvlm"
    assert all(verdict.loads and not verdict.change for verdict in plan.runtimes)
    assert set(plan.refusals) == set(TARGETS) - {"smolvlm"}


def test_llama_cpp_looks_markers_up_as_tokens() -> None:
    """Without them it aborts at the first picture, though transformers takes the markers as ordinary text."""
    plan = plan_of(replace(SIGLIP, tokens=()))
    assert plan.target == "smolvlm"
    verdict = next(one for one in plan.runtimes if one.runtime == "llama.cpp")
    assert not verdict.loads
    assert "added_tokens" in verdict.change


def test_another_llm_in_smolvlm_needs_vllms_backend() -> None:
    vllm = verdicts(replace(SIGLIP, text="qwen2"))["vLLM"]
    assert not vllm.loads
    assert "--model-impl transformers" in vllm.how
    assert "Llama" in vllm.change


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        ({"images": ImagesSpec()}, "set images.style to smolvlm"),
        ({"contract": replace(SIGLIP.contract, feature=-2)}, "set vision_encoder.feature to normed"),
        ({"scaling": LogitScaling(softcap=30.0)}, "choose a language model without a cap"),
        ({"head_bias": True}, "choose a language model whose head has none"),
    ],
)
def test_one_obstacle_is_told_with_the_change_that_removes_it(changes: dict[str, Any], change: str) -> None:
    facts = replace(SIGLIP, **changes)
    assert plan_of(facts).target == "custom"
    transformers = verdicts(facts)["transformers"]
    assert not transformers.loads
    assert change in transformers.change
    assert change in verdicts(facts)["llama.cpp"].change


CLIP = replace(SIGLIP.contract, feature=-2, source_prefix_tokens=1)


def llava(**changes: Any) -> Facts:
    usual = {
        "projector": "mlp",
        "native_classes": ("llava", "deepseek_vl", "fast_vlm"),
        "images": ImagesSpec(),
        "towers": ("clip_vision_model",),
        "contract": CLIP,
    }
    return replace(SIGLIP, **{**usual, **changes})


def test_llava_takes_clip_in_vllm_and_other_towers_by_its_backend() -> None:
    assert plan_of(llava()).target == "llava"
    assert verdicts(llava())["vLLM"].loads
    assert "--model-impl transformers" in verdicts(llava(towers=("dinov2",)))["vLLM"].how
    assert "linear activation" in verdicts(llava(projector="linear"))["vLLM"].how


def test_llava_leaves_out_one_token_and_no_more() -> None:
    """With four registers and a class token, ``default`` would leave four of them among the patches."""
    found = TARGETS.get("llava").obstacles(llava(contract=replace(CLIP, source_prefix_tokens=5)))
    assert [one.change for one in found] == ["set vision_encoder.prefix_tokens to keep"]
    kept = replace(CLIP, prefix_tokens=5, source_prefix_tokens=5)
    assert not TARGETS.get("llava").obstacles(llava(contract=kept))


def test_llava_reads_before_the_last_norm() -> None:
    """hidden_states[-1] is not last_hidden_state but for CLIP and InternViT: one is before the final norm."""
    normed = replace(CLIP, feature="normed")
    assert TARGETS.get("llava").obstacles(llava(contract=normed, towers=("siglip_vision_model",)))
    assert not TARGETS.get("llava").obstacles(llava(contract=normed, towers=("clip_vision_model",)))


def test_a_tiled_student_is_no_llava() -> None:
    tiled = llava(images=ImagesSpec(tiling="dynamic"))
    assert "images.tiling" in plan_of(tiled).refusals["llava"]


def test_internvl_takes_no_other_tower_than_its_own() -> None:
    """Its config builds an InternViT whatever tower was saved, and a CLIP would be drawn anew without an error."""
    shuffled = replace(
        SIGLIP, native_classes=("internvl",), images=ImagesSpec(style="internvl"), tokens=("<img>", "</img>")
    )
    assert "InternViT" in plan_of(shuffled).refusals["internvl"]
    assert plan_of(replace(shuffled, towers=("internvl_vision",))).target == "internvl"


def test_internvls_markers_must_be_tokens() -> None:
    """Its processor makes tokens of them, with ids that the student has never seen."""
    facts = replace(
        SIGLIP, native_classes=("internvl",), images=ImagesSpec(style="internvl"), towers=("internvl_vision",)
    )
    assert "added_tokens" in plan_of(facts).refusals["internvl"]


def test_a_thumbnail_cannot_be_left_out_of_internvl() -> None:
    images = ImagesSpec(style="internvl", tiling="dynamic", thumbnail=False)
    facts = replace(SIGLIP, native_classes=("internvl",), images=images, towers=("internvl_vision",))
    assert "thumbnail" in plan_of(facts).refusals["internvl"]


def test_llama_cpp_has_lfm2_vl_with_patches_of_sixteen() -> None:
    facts = replace(
        SIGLIP, native_classes=("lfm2_vl",), images=ImagesSpec(style="lfm2_vl"), projector="pixel_shuffle_mlp"
    )
    assert plan_of(facts).target == "lfm2_vl"
    assert verdicts(facts)["llama.cpp"].loads
    other = replace(facts, contract=replace(facts.contract, grid=(16, 16)))
    assert "16 pixels" in gguf_refusal("lfm2_vl", other)
    assert "tied" in gguf_refusal("lfm2_vl", replace(facts, tied=False))


def test_a_plain_language_model_loads_everywhere() -> None:
    plan = plan_of(Facts("qwen3", True, LogitScaling(), False))
    assert plan.target == "language_model"
    assert all(verdict.loads for verdict in plan.runtimes)


def test_an_architecture_that_llama_cpp_does_not_know() -> None:
    assert not verdicts(replace(SIGLIP, text="some_new_model"))["llama.cpp"].loads


@pytest.mark.parametrize("side", [2, 4, 7, 14, 16, 24, 27, 32])
def test_smolvlm_finds_positions_by_rounding(side: int) -> None:
    """As the class itself computes them: where it goes wrong the plan must say so."""
    import torch
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

    embeddings = SmolVLMVisionEmbeddings(SmolVLMVisionConfig(hidden_size=2, image_size=4 * side, patch_size=4))
    with torch.no_grad():
        embeddings.patch_embedding.weight.zero_()
        embeddings.patch_embedding.bias.zero_()
        embeddings.position_embedding.weight.copy_(torch.arange(side * side).float()[:, None].expand(-1, 2))
        found = embeddings(torch.zeros(1, 3, 4 * side, 4 * side), torch.ones(1, side, side, dtype=torch.bool))[0, :, 0]
    assert torch.equal(found, torch.arange(side * side).float()) == positions_are_exact(side)
