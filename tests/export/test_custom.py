"""The fallback export: code beside the weights says what the student says, without anything of this package."""

import ast
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from taid_vlm.common.errors import UserError
from taid_vlm.export import custom, export_student
from taid_vlm.export.custom.code import projectors_taid_vlm
from taid_vlm.export.custom.processor import patches_for
from taid_vlm.export.gate import FreshProcess
from taid_vlm.export.targets import smolvlm
from taid_vlm.models.loaded import LoadedStudent
from taid_vlm.models.projectors import PROJECTORS, build_projector
from taid_vlm.models.projectors.registry import projector_options
from taid_vlm.models.specs import ProjectorSpec
from taid_vlm.models.vision_encoder import EncoderContract, ImageInput
from tests.export import students
from tests.export.students import Combination, trained
from tests.tiny.language_model import save_tiny_language_model
from tests.tiny.vision import add_tiny_open_clip

CODE = Path(custom.__file__).parent / "code"
SHUFFLE = {"factor": 2}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny encoders and language models."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind in ("timm", "resnet", "quickgelu"):
        add_tiny_open_clip(folder, kind)
    return folder


def of(library: str, name: str, size: int = 32, **options: Any) -> dict[str, Any]:
    """An encoder that ``students.ENCODERS`` does not name."""
    return {"library": library, "name": name, "weights": "random", "image_size": size, **options}


KEPT = {"prefix_tokens": "keep"}
COMBINATIONS = {
    "linear": Combination("clip", "linear", "gemma2", vision={"feature": -2, **KEPT}),
    "mlp": Combination("registers", "mlp", "granite", vision=KEPT),
    "pixel_shuffle_linear": Combination("timm_vit", "pixel_shuffle_linear", "qwen3", vision={"feature": -1}),
    "pixel_shuffle_mlp": Combination("open_clip", "pixel_shuffle_mlp", "gemma3_text", options={"width": 24}),
    "ln_pixel_shuffle_mlp": Combination("internvit", "ln_pixel_shuffle_mlp", "lfm2", images={"style": "internvl"}),
    "mlp_avg_pool": Combination("aimv2", "mlp_avg_pool", "phi3"),
    "ldp_v2": Combination("siglip", "ldp_v2", "exaone4", vision={"image_size": 48}, options={"ratio": 3}),
    "perceiver": Combination("timm_cnn", "perceiver", "smollm3", options={"latents": 7, "heads": 4, "kv_heads": 2}),
    "open_clip_quickgelu": Combination("siglip", "mlp", "llama", vision=of("open_clip", "tiny-quickgelu", feature=-2)),
    "open_clip_resnet": Combination("siglip", "linear", "mistral", vision=of("open_clip", "tiny-resnet", feature=-2)),
    "open_clip_timm": Combination("siglip", "mlp", "olmo2", vision=of("open_clip", "tiny-timm", 48)),
    "timm_size": Combination("siglip", "mlp", "qwen2", vision=of("timm", "tiny_dinov2_reg", 48, feature=-2, **KEPT)),
    # Rotary positions and a map with channels last: buffers that are in no checkpoint.
    "timm_rotary": Combination("siglip", "mlp", "llama", vision=of("timm", "tiny_dinov3")),
    "timm_last": Combination("siglip", "mlp", "llama", vision=of("timm", "test_mambaout", 64)),
    "one_tile": Combination("siglip", "mlp", "llama", vision={"feature": -2}, images={"style": "smolvlm"}),
    "dynamic": Combination("siglip", "mlp", "llama", images={"style": "internvl", "tiling": "dynamic"}),
    "split": Combination("siglip", "mlp", "llama", images={"style": "smolvlm", "tiling": "split"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINATIONS)
def test_fresh_process_says_the_same(name: str, checkpoints: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    loaded = trained(COMBINATIONS[name], checkpoints, tmp_path / "student")
    done = export_student(loaded, tmp_path / "out", to="custom", process=fresh)
    assert done.kind == "custom"
    # Rounding: of AIMv2, whose tokens are not contiguous where weights are frozen; and of convolutions, whose order depends on the processor.
    limit = 1e-6 if "open_clip_resnet" in name or COMBINATIONS[name].encoder == "aimv2" else 0.0
    assert all(proof.difference <= limit for proof in done.proofs), done.proofs
    assert (tmp_path / "out" / "modeling_taid_vlm.py").is_file()
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [("siglip2_naflex", 48), ("dinov3_vit", 32), ("vit", 48)])
def test_other_towers_of_transformers(
    kind: str, size: int, checkpoints: Path, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(students.ENCODERS, kind, ("transformers", kind))
    parts = Combination(kind, "mlp", "llama", vision={"image_size": size})
    loaded = trained(parts, checkpoints, tmp_path / "student")
    done = export_student(loaded, tmp_path / "out", to="custom", process=fresh)
    assert done.proofs[0].difference == 0.0


def test_every_projector_is_exported() -> None:
    assert {parts.projector for parts in COMBINATIONS.values()} == set(PROJECTORS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, fresh: FreshProcess) -> tuple[LoadedStudent, Path]:
    """A student with scaled logits, a tied head and tiles, and its checkpoint in a folder that was moved."""
    folder = tmp_path_factory.mktemp("exported")
    save_tiny_language_model(folder / "language_models" / "granite", "granite", tied=True)
    images = {"style": "smolvlm", "tiling": "split"}
    parts = Combination("siglip", "pixel_shuffle_mlp", "granite", options=SHUFFLE, images=images)
    loaded = trained(parts, folder, folder / "student")
    export_student(loaded, folder / "out", to="custom", process=fresh)
    shutil.move(folder / "out", folder / "moved")
    return loaded, folder / "moved"


@pytest.fixture(scope="module")
def reloaded(exported: tuple[LoadedStudent, Path]) -> tuple[Any, Any]:
    """Model and processor; the processor is stock, without code of its own."""
    folder = exported[1]
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder, trust_remote_code=False)


def chat(processor: Any, pictures: list[list[Image.Image]], **options: Any) -> Any:
    """One conversation for each list of pictures."""
    conversations = [
        [
            {
                "role": "user",
                "content": [*({"type": "image", "image": p} for p in row), {"type": "text", "text": "what is it?"}],
            }
        ]
        for row in pictures
    ]
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=options,
    )


def picture(width: int, height: int, colour: int) -> Image.Image:
    return Image.new("RGB", (width, height), (colour, 255 - colour, 40))


def test_without_trust_transformers_says_so(exported: tuple[LoadedStudent, Path], fresh: FreshProcess) -> None:
    answer = fresh.ask({"folder": str(exported[1]), "sees": True, "trust": False, "probes": []})
    assert answer["error"].startswith("ValueError")
    assert "trust_remote_code" in answer["error"]


def test_moved_folder_loads_with_every_key(exported: tuple[LoadedStudent, Path], fresh: FreshProcess) -> None:
    answer = fresh.ask({"folder": str(exported[1]), "sees": True, "trust": True, "probes": []})
    assert answer == {"keys": {}, "class": "TaidVlmForConditionalGeneration", "probes": []}


def test_head_stays_tied(exported: tuple[LoadedStudent, Path], reloaded: tuple[Any, Any]) -> None:
    model, loaded = reloaded[0], exported[0]
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.logit_scale == loaded.student.logit_scaling.scale != 1
    config = json.loads((exported[1] / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert sum(p.numel() for p in model.parameters()) < loaded.parameters_total  # no pooling head


def test_base_model_loads_for_runtimes_with_a_head_of_their_own(
    exported: tuple[LoadedStudent, Path], reloaded: tuple[Any, Any]
) -> None:
    base = AutoModel.from_pretrained(exported[1], trust_remote_code=True, dtype=torch.float32)
    assert type(base).__name__ == "TaidVlmModel"
    inputs = chat(reloaded[1], [[picture(40, 30, 200)]])
    with torch.no_grad():
        states = base(**inputs).last_hidden_state
        logits = reloaded[0](**inputs).logits
    assert torch.equal(base.config.logit_scale * reloaded[0].lm_head(states), logits)
    assert type(base).is_backend_compatible()


@torch.no_grad()
def test_batch_of_different_pictures_generates_as_singles(reloaded: tuple[Any, Any]) -> None:
    model, processor = reloaded
    pictures = [[picture(40, 90, 30)], [], [picture(32, 32, 250), picture(90, 40, 120)]]
    batch = chat(processor, pictures, padding=True, padding_side="left")
    there = batch["pixel_attention_mask"].flatten(2).any(-1)
    assert there.sum(1).tolist() == [3, 0, 8]  # a row with fewer tiles has empty ones behind them
    assert there.shape[1] == 8
    last = model(**batch, logits_to_keep=1).logits
    together = model.generate(**batch, max_new_tokens=5, do_sample=False)[:, batch["input_ids"].shape[1] :]
    for row, logits, own in zip(together, last, pictures, strict=True):
        single = chat(processor, [own])
        assert torch.allclose(model(**single, logits_to_keep=1).logits[0], logits, atol=1e-5)
        alone = model.generate(**single, max_new_tokens=5, do_sample=False)[0, single["input_ids"].shape[1] :]
        assert row[: len(alone)].tolist() == alone.tolist()
        without_cache = model.generate(**single, max_new_tokens=5, do_sample=False, use_cache=False)
        assert without_cache[0, single["input_ids"].shape[1] :].tolist() == alone.tolist()


@torch.no_grad()
def test_forward_options(reloaded: tuple[Any, Any]) -> None:
    model, processor = reloaded
    inputs = chat(processor, [[picture(40, 30, 200)]])
    whole = model(**inputs, labels=inputs["input_ids"])
    last = model(**inputs, logits_to_keep=1).logits
    assert torch.allclose(last, whole.logits[:, -1:], atol=1e-6)
    expected = torch.nn.functional.cross_entropy(whole.logits[0, :-1], inputs["input_ids"][0, 1:])
    assert torch.allclose(whole.loss, expected)
    assert torch.equal(model(**inputs, return_dict=False)[0], whole.logits)
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    pixels = {name: inputs[name] for name in ("pixel_values", "attention_mask")}
    assert torch.equal(model(inputs_embeds=embeddings, **pixels).logits, whole.logits)
    features = model.get_image_features(inputs["pixel_values"].flatten(0, 1))
    assert features.shape == (int((inputs["input_ids"] == model.config.image_token_id).sum()), 32)


def test_wrong_number_of_placeholders_is_refused(reloaded: tuple[Any, Any]) -> None:
    model, processor = reloaded
    inputs = chat(processor, [[picture(32, 32, 9)]])
    inputs["pixel_values"] = inputs["pixel_values"].repeat(1, 2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"image tokens .* 4 for each tile"):
        model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_chosen_for_all_parts(exported: tuple[LoadedStudent, Path], attention: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(
        exported[1], trust_remote_code=True, attn_implementation=attention
    )
    assert model.model.language_model.config._attn_implementation == attention
    assert model.model.vision_encoder.backbone.config._attn_implementation == attention


@pytest.mark.parametrize("encoder", ["tiny_dinov3", "test_mambaout"])
def test_half_precision_loads(encoder: str, checkpoints: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    vision = of("timm", encoder, 64 if encoder == "test_mambaout" else 32)
    loaded = trained(Combination("siglip", "mlp", "llama", vision=vision), checkpoints, tmp_path / "student")
    export_student(loaded, tmp_path / "out", to="custom", process=fresh)
    model = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "out", trust_remote_code=True, dtype=torch.bfloat16
    ).eval()
    pixels = torch.randn(1, 3, vision["image_size"], vision["image_size"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        half = model.get_image_features(pixels).float()
        assert loaded.student.projector is not None
        assert loaded.student.vision_encoder is not None
        exact = loaded.student.projector(loaded.student.vision_encoder(pixels)).flatten(0, 1)
    assert torch.allclose(half, exact, atol=0.05 * float(exact.abs().max()))


def test_saved_again_it_is_the_same(reloaded: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = reloaded
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=True, dtype=torch.float32).eval()
    inputs = chat(processor, [[picture(32, 32, 77)]])
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_code_imports_nothing_of_ours() -> None:
    files = sorted(CODE.glob("*_taid_vlm.py"))
    assert len(files) == 4
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= {"torch", "timm", "open_clip"}, file
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.module or "").split(".")[0] in (
                    *("torch", "transformers", "typing", "types"),
                    *("collections", "dataclasses", "importlib"),
                ), (file, node.module)


GRID = EncoderContract(24, (6, 6), ImageInput(48, (0.5,) * 3, (0.5,) * 3, "bicubic"))
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in PROJECTORS),
    ("pixel_shuffle_linear", {"factor": 3}),
    ("pixel_shuffle_mlp", {"factor": 1, "width": 20, "layernorm": True}),
    ("mlp_avg_pool", {"ratio": 4}),
    ("ldp_v2", {"ratio": 1}),
    ("perceiver", {"latents": 5, "depth": 1, "heads": 4, "kv_heads": 4, "head_dim": 8, "width": 10}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projectors_are_equal_bit_for_bit(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    ours = build_projector(ProjectorSpec(name=name, options=options), GRID, 16, 0.02).to(dtype)
    given = {key: value for key, value in {**projector_options(name), **options}.items() if value is not None}
    theirs = projectors_taid_vlm.build_projector(name, 24, 16, (6, 6), given).to(dtype)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    features = torch.randn(3, 36, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(ours(features), theirs(features))


@pytest.mark.parametrize("size", [32, 98, 224, 384])
def test_llava_processor_counts_any_number_of_tokens(size: int) -> None:
    for tokens in (1, 2, 5, 16, 17, 49, 64, 81, 100, 196, 197, 729):
        patch, additional = patches_for(size, tokens)
        assert (size // patch) ** 2 + additional == tokens
        assert additional >= 0
    assert patches_for(224, 196) == (16, 0)
    assert patches_for(224, 197) == (16, 1)


@pytest.mark.parametrize(
    ("images", "change"),
    [
        ({"style": "lfm2_vl"}, "plain, internvl or smolvlm"),
        ({"style": "plain", "tiling": "dynamic"}, "images.style to internvl"),
        ({"style": "internvl", "tiling": "dynamic", "thumbnail": False}, "images.thumbnail to true"),
    ],
)
def test_pictures_that_no_stock_processor_prepares_are_refused(
    images: dict[str, Any], change: str, checkpoints: Path, tmp_path: Path
) -> None:
    loaded = trained(Combination("siglip", "ldp_v2", "llama", images=images), checkpoints, tmp_path / "student")
    with pytest.raises(UserError, match=change):
        export_student(loaded, tmp_path / "out", to="custom")
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named(
    checkpoints: Path, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"style": "smolvlm"}
    loaded = trained(Combination("timm_cnn", "mlp", "llama", images=images), checkpoints, tmp_path / "student")
    with monkeypatch.context() as patched:
        patched.setattr(smolvlm, "find_spec", lambda name: None)
        with pytest.raises(UserError, match="pip install num2words"):
            export_student(loaded, tmp_path / "out", to="custom", process=fresh)
    done = export_student(loaded, tmp_path / "out", to="custom", process=fresh)
    assert any("pip install timm" in note for note in done.notes)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        AutoModelForImageTextToText.from_pretrained(tmp_path / "out", trust_remote_code=True)
