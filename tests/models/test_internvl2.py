"""InternVL2 in its released layout becomes the stock class: the same logits, the same values, nothing run and nothing half-written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from taid_vlm.common.errors import UserError
from taid_vlm.models.native.internvl2 import convert, weights
from taid_vlm.models.native.internvl2.convert import convert_internvl2
from tests.models.internvl2_reference import reference_logits
from tests.tiny.internvl2 import SIDE, save_original, write_weights

FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 3.0, 5.0, 9.0]}
VARIANTS: dict[str, dict[str, Any]] = {
    "internlm2": {"kind": "internlm2"},
    "internlm2, biases": {"kind": "internlm2", "text": {"bias": True}},
    "internlm2, one key head, linear": {
        "kind": "internlm2",
        "text": {"num_key_value_heads": 1, "rope_scaling": {"type": "linear", "factor": 2.0}},
    },
    "internlm2, as many key heads": {"kind": "internlm2", "text": {"num_key_value_heads": 4, "rope_scaling": None}},
    "qwen2": {"kind": "qwen2"},
    "qwen2, tied": {"kind": "qwen2", "text": {"tie_word_embeddings": True}},
    "phi3": {"kind": "phi3"},
    "phi3, su": {"kind": "phi3", "text": {"rope_scaling": {"type": "su", **FACTORS}, "max_position_embeddings": 128}},
    "llama": {"kind": "llama"},
    "normed queries and keys, RMS norms": {
        "vision": {"qk_normalization": True, "norm_type": "rms_norm", "qkv_bias": False}
    },
    "an earlier layer": {"top": {"select_layer": -2}},
}


def ids_of(length: int, tiles: int, image_token: int, seed: int) -> torch.Tensor:
    ids = torch.randint(3, image_token - 4, (length,), generator=torch.Generator().manual_seed(seed))
    ids[5 : 5 + 4 * tiles] = image_token
    return ids


def stock_logits(folder: Path, ids: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(input_ids=ids[None], pixel_values=pixels).logits[0]


def assert_same_logits(
    folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], length: int = 40
) -> None:
    """Weights are float64, so that what differs is the forward and not its rounding."""
    token = json.loads((folder / "config.json").read_text())["image_token_id"]
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    for tiles in (2, 0):
        ids = ids_of(length, tiles, token, tiles)
        pixels = torch.randn(tiles, 3, SIDE, SIDE, dtype=torch.float64) if tiles else None
        expected = reference_logits(config, exact, ids, pixels, token)
        assert expected.std() > 0.1
        scale = max(
            1.0, float(expected.abs().max())
        )  # above 1 only where the head is the embedding, which has large values
        torch.testing.assert_close(stock_logits(folder, ids, pixels), expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_original_forward(variant: str, tmp_path: Path) -> None:
    config, tensors = save_original(tmp_path / "original", **VARIANTS[variant])
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert_same_logits(tmp_path / "stock", config, tensors)


@pytest.mark.parametrize("variant", ["internlm2", "internlm2, one key head, linear", "phi3, su"])
def test_positions_beyond_what_was_trained_are_scaled_alike(variant: str, tmp_path: Path) -> None:
    config, tensors = save_original(tmp_path / "original", **VARIANTS[variant])
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert config["llm_config"]["max_position_embeddings"] < 200
    assert_same_logits(tmp_path / "stock", config, tensors, length=200)


@pytest.mark.parametrize("files", ["several", "bin", "bins"])
def test_any_form_of_weight_files_gives_the_same_tensors(files: str, tmp_path: Path) -> None:
    save_original(tmp_path / "one")
    save_original(tmp_path / "other", files=files)
    convert_internvl2(tmp_path / "one", tmp_path / "expected")
    convert_internvl2(tmp_path / "other", tmp_path / "found")
    expected, found = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("expected", "found"))
    if files == "several":  # files are read in another order
        assert len(expected) == len(found)
    one, other = (
        AutoModelForImageTextToText.from_pretrained(tmp_path / name).state_dict() for name in ("expected", "found")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_values_and_their_type_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    _, tensors = save_original(tmp_path / "original", dtype=dtype)
    convert_internvl2(tmp_path / "original", tmp_path / "stock")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "stock", dtype="auto")
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(model.state_dict()["lm_head.weight"], tensors["language_model.output.weight"])
    counted = sum(tensor.numel() for tensor in tensors.values())
    assert sum(p.numel() for p in model.parameters()) == counted


def test_large_checkpoints_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, tensors = save_original(tmp_path / "original", files="several")
    monkeypatch.setattr(weights, "SHARD", 20_000)
    told: list[int] = []
    convert_internvl2(tmp_path / "original", tmp_path / "stock", progress=told.append)
    files = sorted((tmp_path / "stock").glob("*.safetensors"))
    index = json.loads((tmp_path / "stock" / "model.safetensors.index.json").read_text())
    assert len(files) == len(told) > 3
    assert sum(told) == index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert_same_logits(tmp_path / "stock", config, tensors)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "v1": ({"top": {"ps_version": "v1"}}, "v1 leaves rows and columns"),
    "square": ({"top": {"pad2square": True}}, "pad2square"),
    "adapters": ({"top": {"use_llm_lora": 16}}, "merge the adapters"),
    "no thumbnail": ({"top": {"use_thumbnail": False}}, "thumbnail"),
    "form": ({"top": {"template": "vicuna_v1.1"}}, "'vicuna_v1.1'"),
    "strange key": ({"top": {"mixture": 4}}, "mixture: 4"),
    "strange key of the tower": ({"vision": {"registers": 2}}, "registers: 2"),
    "experts": ({"vision": {"use_moe": True}}, "vision_config"),
    "strange key of the text": ({"text": {"soft_cap": 30.0}}, "soft_cap"),
    "v2pe": ({"text": {"rope_pos_id_version": "v2pe"}}, "v2pe"),
    "scaling": ({"text": {"rope_scaling": {"type": "yarn", "factor": 2.0}}}, "'yarn'"),
    "language model": ({"text": {"architectures": ["Gemma2ForCausalLM"]}}, "Gemma2ForCausalLM"),
    "another size": ({"top": {"force_image_size": 64}}, "force_image_size"),
    "epsilon": ({"vision": {"qk_normalization": True, "layer_norm_eps": 1e-5}}, "layer_norm_eps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    changes, said = REFUSED[case]
    save_original(tmp_path / "original", **changes)
    with pytest.raises(UserError, match=said):
        convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_weights_that_are_missing_unknown_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    _, tensors = save_original(tmp_path / "original")
    for change, said in (
        ({"language_model.output.weight": None}, "1 missing"),
        ({"vision_model.head.weight": torch.zeros(2, 2)}, "1 unknown"),
        ({"mlp1.1.weight": torch.zeros(3, 3)}, "1 of another shape"),
        ({"language_model.model.layers.0.attention.wqkv.weight": torch.zeros(63, 32)}, "does not split|another shape"),
    ):
        changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
        write_weights(tmp_path / "original", changed, "one")
        with pytest.raises(UserError, match=said):
            convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert not (tmp_path / "stock").exists()


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_original(tmp_path / "original")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(UserError, match="no space left"):
        convert_internvl2(tmp_path / "original", tmp_path / "stock")
    monkeypatch.setattr(convert, "require_space", lambda *_: full())
    with pytest.raises(OSError, match="No space"):
        convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    save_original(tmp_path / "original", files="bin")
    (tmp_path / "original" / "pytorch_model.bin").write_bytes(pickle.dumps({"mlp1.0.weight": Evil()}))
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        convert_internvl2(tmp_path / "original", tmp_path / "stock")
    assert not (tmp_path / "ran").exists()


def test_a_missing_weight_file_is_told(tmp_path: Path) -> None:
    save_original(tmp_path / "original", files="several")
    (tmp_path / "original" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match="model-00002-of-00003"):
        convert_internvl2(tmp_path / "original", tmp_path / "stock")


def test_an_answer_ends_as_the_original_ends_it(tmp_path: Path) -> None:
    for kind, end in (("internlm2", "<|im_end|>"), ("qwen2", "<|im_end|>"), ("phi3", "<|end|>")):
        save_original(tmp_path / kind, kind)
        convert_internvl2(tmp_path / kind, tmp_path / f"{kind}-stock")
        tokenizer = AutoProcessor.from_pretrained(tmp_path / f"{kind}-stock").tokenizer
        about = json.loads((tmp_path / f"{kind}-stock" / "generation_config.json").read_text())
        assert about["eos_token_id"] == tokenizer.convert_tokens_to_ids(end)
        assert (tmp_path / f"{kind}-stock" / "LICENSE").read_text() == "MIT\n"
