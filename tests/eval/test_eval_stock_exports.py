"""Students of ours, exported to each kind of checkpoint: the stock adapter gives equal logits with images reused or not."""

from pathlib import Path

import pytest
import torch

from taid_vlm.export import export_student
from taid_vlm.export.gate import FreshProcess
from taid_vlm_eval.models import open_model
from taid_vlm_eval.models.assembling import Assembled
from tests.eval.pictured import Calls, logits_of, requests
from tests.export.students import Combination, trained

KINDS = {
    "fast_vlm": Combination("timm_cnn", "mlp", "llama"),
    "perception_lm": Combination("timm_vit", "mlp_avg_pool", "llama"),
    "lfm2_vl": Combination("siglip", "pixel_shuffle_mlp", "lfm2", images={"style": "lfm2_vl"}),
    "deepseek_vl": Combination("siglip", "mlp", "llama"),
    "custom": Combination("timm_cnn", "perceiver", "smollm3", options={"latents": 7, "heads": 4, "kv_heads": 2}),
}


@pytest.fixture(scope="module")
def fresh() -> "pytest.Iterator[FreshProcess]":  # type: ignore[name-defined]
    root = Path(__file__).parents[2]
    with FreshProcess(f"import sys; sys.path.append({str(root)!r}); import tests.tiny.timm_models") as process:
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_equal_with_images_reused(
    kind: str, fresh: FreshProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = trained(KINDS[kind], tmp_path, tmp_path / "student")
    folder = export_student(student, tmp_path / kind, kind, fresh).folder
    plain, reused = (
        open_model(folder, device="cpu", reuse_images=reuse, trust_remote_code=True) for reuse in (False, True)
    )
    alone = [logits_of(plain, [request], 3)[0] for request in requests()]
    for batch in (requests(), requests()):  # the second comes from the cache
        for one, truth in zip(logits_of(reused, batch, 3), alone, strict=True):
            torch.testing.assert_close(one, truth, rtol=1e-4, atol=1e-4 * truth.std().item())
    assert reused.not_reused == ""
    assert all(isinstance(part.inputs, Assembled) for part in reused.prepare(requests()))
    assert (alone[0] - alone[3]).abs().max() > 1e-4 * alone[0].std()  # the pictures show
    calls = Calls(reused, monkeypatch)
    reused.generate([one for one in requests() if one.keys], 2)
    assert (calls.encoded, calls.preprocessed) == (0, 0)
