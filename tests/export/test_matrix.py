"""Every encoder with every projector, and every language model with both: assemble, train, save, export, reload, compare.

What a stock class can hold goes into it; what none can is refused by the plan, with the reason, and exported with code.
"""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm.export import export_plan, export_student
from taid_vlm.export.gate import FreshProcess
from tests.export.students import ENCODERS, LANGUAGE_MODELS, Combination, trained

PROJECTORS = (
    *("linear", "mlp", "pixel_shuffle_linear", "pixel_shuffle_mlp", "ln_pixel_shuffle_mlp", "mlp_avg_pool"),
    *("perceiver", "ldp_v2"),
)
# What a recipe says beside the names of the parts, so that the class that fits can hold the student.
BEFORE_THE_NORM = {"linear": {"feature": -2}, "mlp": {"feature": -1}}
STYLES = {
    "pixel_shuffle_linear": {"style": "smolvlm"},
    "pixel_shuffle_mlp": {"style": "lfm2_vl"},
    "ln_pixel_shuffle_mlp": {"style": "internvl"},
}
SIGLIPS = ("siglip", "timm_siglip")
# The stock class of each encoder and projector; what is not named goes into none.
NATIVE = {
    **{(encoder, "linear"): "llava" for encoder in ENCODERS if encoder not in ("timm_vit", "timm_cnn")},
    **{(encoder, "mlp"): "llava" for encoder in ENCODERS if encoder not in ("timm_vit", "timm_cnn")},
    **{(encoder, "pixel_shuffle_linear"): "smolvlm" for encoder in SIGLIPS},
    **{(encoder, "pixel_shuffle_mlp"): "lfm2_vl" for encoder in SIGLIPS},
    ("timm_vit", "mlp"): "deepseek_vl",
    ("timm_cnn", "mlp"): "fast_vlm",
    ("internvit", "ln_pixel_shuffle_mlp"): "internvl",
    ("timm_vit", "mlp_avg_pool"): "perception_lm",
    ("timm_siglip", "mlp_avg_pool"): "perception_lm",
}
# Of another library than transformers: the tower is converted, and its sums run in another order.
CONVERTED = ("timm_siglip", "timm_vit", "open_clip")


def combination(encoder: str, projector: str) -> Combination:
    """The parts, with a language model such that every one meets every encoder and every projector."""
    places = list(ENCODERS).index(encoder), PROJECTORS.index(projector)
    language_model = LANGUAGE_MODELS[sum(places) % len(LANGUAGE_MODELS)]
    vision: dict[str, Any] = {}
    if encoder not in ("timm_vit", "timm_cnn"):
        vision = BEFORE_THE_NORM.get(projector, {})
    if (encoder, projector) == ("timm_vit", "mlp") or (encoder == "registers" and projector in BEFORE_THE_NORM):
        vision = {**vision, "prefix_tokens": "keep"}
    images = STYLES.get(projector, {})
    if images.get("style") == "lfm2_vl" and encoder not in SIGLIPS:
        images = {}  # without a stock class for it the style has no processor
    options: dict[str, Any] = {"factor": 1} if encoder == "timm_cnn" and "shuffle" in projector else {}
    return Combination(encoder, projector, language_model, vision, options, images)


def test_every_pair_of_parts_meets() -> None:
    made = [combination(encoder, projector) for encoder in ENCODERS for projector in PROJECTORS]
    assert len({(c.encoder, c.projector) for c in made}) == len(ENCODERS) * len(PROJECTORS) >= 64
    assert len({(c.encoder, c.language_model) for c in made}) == len(ENCODERS) * len(LANGUAGE_MODELS)
    assert len({(c.projector, c.language_model) for c in made}) == len(PROJECTORS) * len(LANGUAGE_MODELS)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny encoders and language models."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.slow
@pytest.mark.parametrize("projector", PROJECTORS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_combination(encoder: str, projector: str, checkpoints: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    parts = combination(encoder, projector)
    loaded = trained(parts, checkpoints, tmp_path / "student")
    expected = NATIVE.get((encoder, projector), "custom")
    plan = export_plan(loaded.student, loaded.processor, loaded.spec)
    assert plan.target == expected, plan.refusals
    if expected == "custom":
        assert plan.refusals
        assert all(plan.refusals.values())
    done = export_student(loaded, tmp_path / "out", process=fresh)
    assert done.kind == expected
    # Averages are summed in an order that follows the memory, which a frozen student and a fresh one may lay out otherwise.
    limit = 1e-6 if encoder in CONVERTED or projector == "mlp_avg_pool" else 0.0
    assert all(proof.difference <= limit for proof in done.proofs), done.proofs
    assert (tmp_path / "out" / "language_model" / "config.json").is_file()
