"""Which adapter opens what, and one message for whatever is no model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.models import ADAPTERS
from taid_vlm_eval.models.device import choose_device, first_device
from taid_vlm_eval.models.identity import folder_fingerprint


def test_the_content_of_a_folder_decides(language_model: Path, tmp_path: Path) -> None:
    assert open_model(language_model).describe()["adapter"] == "transformers"
    both = shutil.copytree(language_model, tmp_path / "both")
    (both / "student.json").write_text("{}")
    with pytest.raises(UserError, match=r"student\.json is damaged"):
        open_model(both)
    # Said by name, the other adapter has its way.
    assert open_model(both, "transformers").describe()["adapter"] == "transformers"


def test_what_is_no_model_is_told(tmp_path: Path, language_model: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"run is no model: found nothing; expected student\.json .* or config\.json"):
        open_model(tmp_path / "run")
    shutil.copytree(language_model, tmp_path / "run" / "student")
    with pytest.raises(UserError, match=r"found student; .*did you mean .*run/student\?"):
        open_model(tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.json is a file; expected the folder of a model"):
        open_model(language_model / "config.json")
    with pytest.raises(UserError, match=r"no folder at \./no/such/thing, and this is no id on the model hub"):
        open_model("./no/such/thing")
    with pytest.raises(UserError, match=r"^nobody/nothing does not load as a transformers checkpoint"):
        open_model("nobody/nothing")
    with pytest.raises(UserError, match="unknown model adapter 'transformer': did you mean 'transformers'"):
        open_model(language_model, "transformer")
    assert set(ADAPTERS) == {"student", "transformers", "openai", "vllm"}


def without(name: str) -> Any:
    def damage(folder: Path) -> None:
        for path in folder.glob(name):
            path.unlink()

    return damage


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def drop_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(**changes: Any) -> Any:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("model.safetensors"), r"no file named model\.safetensors"),
        (without("*token*"), "does not load"),
        (cut_weights, "does not load.*header"),
        (drop_a_weight, r"lacks 1 weights of its architecture, the first being model\.norm\.weight"),
        (configure(hidden_size=64), "does not load"),
        (configure(model_type="lama"), "does not load.*lama"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    ],
    ids=["no weights", "no tokenizer", "cut weights", "a weight missing", "other sizes", "unknown type", "no config"],
)
def test_a_damaged_checkpoint_is_told(tmp_path: Path, language_model: Path, damage: Any, message: str) -> None:
    folder = shutil.copytree(language_model, tmp_path / "copy")
    damage(folder)
    with pytest.raises(UserError, match=f"(?s)copy.*{message}"):
        open_model(folder)


def test_unknown_devices_and_precisions_are_told(language_model: Path) -> None:
    assert choose_device(None) == first_device()
    assert choose_device("cpu") == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{name}' cannot be used: .*; this machine would take '"):
            open_model(language_model, device=name)
    with pytest.raises(UserError, match="unknown dtype 'bf16': did you mean 'bfloat16'"):
        open_model(language_model, dtype="bf16")


def test_the_fingerprint_sees_weights_and_not_results(tmp_path: Path, language_model: Path) -> None:
    folder = shutil.copytree(language_model, tmp_path / "copy")
    first = folder_fingerprint(folder)
    assert first == folder_fingerprint(language_model)
    (folder / "easy_vqa.result.json").write_text("{}")
    (folder / "easy_vqa.answers.jsonl").write_text("{}")
    (folder / "optimizer.state").write_text("x")
    assert folder_fingerprint(folder) == first
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(raw)
    assert folder_fingerprint(folder) != first


def test_the_fingerprint_of_a_large_file_samples_both_ends(tmp_path: Path) -> None:
    size = (8 << 20) + 5
    prints = set()
    for place in (None, 0, size // 2, size - 1):
        raw = bytearray(size)
        if place is not None:
            # Training moves nearly all weights; 200 KiB is above the distance between two samples.
            raw[max(0, place - 100_000) : place + 100_000] = b"\1" * len(raw[max(0, place - 100_000) : place + 100_000])
        (tmp_path / "model.safetensors").write_bytes(raw)
        prints.add(folder_fingerprint(tmp_path))
    assert len(prints) == 4


def test_places_are_named_as_in_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path))
    (tmp_path / "mine" / "student").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mine/student is no model: found nothing"):
        open_model("cache:mine/student")
    with pytest.raises(UserError, match="'cache' holds no 'yours'"):
        open_model("cache:yours")
