"""What an export writes, what it refuses, and that nothing is left of one that fails its proof."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from taid_vlm.common.errors import UserError
from taid_vlm.export import export_student, write
from taid_vlm.export.card import About, export_card
from taid_vlm.export.gate import FreshProcess, Proof
from taid_vlm.export.processors import stock_template
from taid_vlm.models.loaded import LoadedStudent
from tests.export.students import Combination, trained

SMOLVLM = Combination("siglip", "pixel_shuffle_linear", "llama", images={"style": "smolvlm"})
LLAVA = Combination("clip", "mlp", "qwen2", {"feature": -2})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("write")


@pytest.fixture(scope="module")
def llava(root: Path) -> LoadedStudent:
    return trained(LLAVA, root, root / "llava")


@pytest.fixture(scope="module")
def exported(root: Path, llava: LoadedStudent, fresh: FreshProcess) -> Path:
    about = About(text="## Scores\n\n| easy_vqa | accuracy | 0.9 |\n")
    return export_student(llava, root / "exported", process=fresh, about=about).folder


def config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


def test_the_card_tells_how_to_open_it_what_it_is_made_of_and_how_it_scores(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    for part in (
        "pipeline_tag: image-text-to-text",
        "AutoProcessor",
        "| projector | mlp | random start |",
        "No licence is claimed",
        "## Scores",
    ):
        assert part in card
    assert "license:" not in card


@pytest.mark.parametrize("inside", ["", "language_model"])
def test_what_the_card_says_to_type_answers(
    inside: str,
    exported: Path,
    llava: LoadedStudent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The text model has a card of its own only where it is exported alone; its folder is the same."""
    card = (exported / "README.md").read_text()
    if inside:
        card = export_card(llava.spec, inside, (Proof("Qwen2ForCausalLM", 0.0, 0.0),), (), About(), "text")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(exported / inside))
    exec(compile(code, "the card", "exec"), {})
    assert "What is it?" in capsys.readouterr().out


def test_the_language_model_names_its_class_and_the_tower_none(exported: Path) -> None:
    """llama.cpp looks there: for the text model by its own class, for the mmproj by the whole one if the tower has none."""
    assert config(exported)["text_config"]["architectures"] == ["Qwen2ForCausalLM"]
    assert "architectures" not in config(exported)["vision_config"]


def test_the_tower_has_the_names_that_other_runtimes_read(exported: Path) -> None:
    names = load_file(exported / "model.safetensors")
    tower = [name for name in names if "vision_tower" in name]
    assert tower
    assert all("vision_tower.vision_model." in name for name in tower)


def test_the_processor_counts_tokens_for_vllm(exported: Path) -> None:
    """LlavaProcessor counts by crop_size, and raises a TypeError without one."""
    from transformers import AutoProcessor

    counts = AutoProcessor.from_pretrained(exported)._get_num_multimodal_tokens(image_sizes=[[64, 48]])
    assert counts["num_image_tokens"] == [16]


def test_the_end_of_turn_ends_an_answer(exported: Path, llava: LoadedStudent) -> None:
    from transformers import GenerationConfig

    ends = GenerationConfig.from_pretrained(exported)
    assert ends.eos_token_id == llava.processor.tokenizer.eos_token_id
    assert not ends.do_sample


def test_batches_are_padded_on_the_left_where_answers_begin(exported: Path, llava: LoadedStudent) -> None:
    from transformers import AutoProcessor, AutoTokenizer

    for tokenizer in (
        AutoProcessor.from_pretrained(exported).tokenizer,
        *map(AutoTokenizer.from_pretrained, (exported, exported / "language_model")),
    ):
        mask = tokenizer(["a", "a longer one"], padding=True, return_tensors="pt")["attention_mask"]
        assert (mask[0, 0].item(), mask[0, -1].item()) == (0, 1)
        assert mask[1].all()
    assert llava.processor.tokenizer.padding_side == "right"  # the student's own is as it was


def test_large_checkpoints_are_written_in_shards(
    root: Path, llava: LoadedStudent, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "SHARD", "40KB")
    folder = export_student(llava, root / "shards", process=fresh).folder
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert all("vision_tower.vision_model." in name for name in index["weight_map"] if "vision_tower" in name)


@pytest.mark.parametrize("tied", [True, False])
def test_an_untied_head_is_kept_by_classes_that_tie_by_default(tied: bool, root: Path, fresh: FreshProcess) -> None:
    """InternVLConfig ties unless told otherwise, and then the head is not in the file."""
    from tests.tiny.language_model import save_tiny_language_model

    family = f"qwen3-{tied}"
    save_tiny_language_model(root / "language_models" / family, "qwen3", tied=tied)
    parts = Combination("internvit", "ln_pixel_shuffle_mlp", family, images={"style": "internvl"})
    folder = export_student(trained(parts, root, root / family), root / f"{family}-out", process=fresh).folder
    assert config(folder)["tie_word_embeddings"] == tied
    assert any("lm_head" in name for name in load_file(folder / "model.safetensors")) != tied


def test_a_logit_scale_goes_into_the_head(root: Path, fresh: FreshProcess) -> None:
    """Stock multimodal classes know of none; Granite's head and embedding are one tensor before, and two after."""
    parts = Combination("clip", "mlp", "granite", {"feature": -1})
    loaded = trained(parts, root, root / "granite")
    assert loaded.student.logit_scaling.scale != 1
    folder = export_student(loaded, root / "granite-out", process=fresh).folder
    assert config(folder)["tie_word_embeddings"] is False


@pytest.mark.parametrize("size", ["split", "none"])
def test_tiles_of_smolvlm(size: str, root: Path, fresh: FreshProcess) -> None:
    images = {"style": "smolvlm", "tiling": size}
    parts = Combination("siglip", "pixel_shuffle_linear", "llama", images=images)
    done = export_student(trained(parts, root, root / f"smolvlm-{size}"), root / f"smolvlm-{size}-out", process=fresh)
    assert (done.kind, done.proofs[0].difference) == ("smolvlm", 0.0)


def test_tiles_of_internvl(root: Path, fresh: FreshProcess) -> None:
    images = {"style": "internvl", "tiling": "dynamic", "max_tiles": 4}
    parts = Combination("internvit", "ln_pixel_shuffle_mlp", "qwen2", images=images)
    done = export_student(trained(parts, root, root / "internvl"), root / "internvl-out", process=fresh)
    assert (done.kind, done.proofs[0].difference) == ("internvl", 0.0)


def test_the_language_model_alone(root: Path, llava: LoadedStudent, fresh: FreshProcess) -> None:
    done = export_student(llava, root / "text", to="language_model", process=fresh)
    assert done.proofs[0].architecture == "Qwen2ForCausalLM"
    assert "text-generation" in (done.folder / "README.md").read_text()


def test_other_weights_on_disk_are_caught_and_nothing_is_left(
    tmp_path: Path, llava: LoadedStudent, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = write.native_model

    def wrong(native: Any, target: Any) -> Any:
        model = save(native, target)
        with torch.no_grad():
            model.model.multi_modal_projector.linear_2.bias.add_(1.0)
        return model

    monkeypatch.setattr(write, "native_model", wrong)
    # The projector's tensors are shared with the student, so the fault is put into a copy.
    monkeypatch.setattr(
        "taid_vlm.export.targets.common.projector_state",
        lambda parts: {name: tensor.clone() for name, tensor in parts.student.projector.state_dict().items()},
    )
    with pytest.raises(UserError, match="other logits"):
        export_student(llava, tmp_path / "out", process=fresh)
    assert not list(tmp_path.iterdir())


def test_a_parameter_that_gets_lost_is_caught(
    tmp_path: Path, llava: LoadedStudent, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    def drops(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors.pop(next(name for name in tensors if "linear_2.bias" in name))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(write, "_nest_tower", drops)
    with pytest.raises(UserError, match=r"other parameters.*linear_2\.bias"):
        export_student(llava, tmp_path / "out", process=fresh)
    assert not list(tmp_path.iterdir())


def test_another_template_is_caught(
    tmp_path: Path, llava: LoadedStudent, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "taid_vlm.export.processors.stock_template",
        lambda template, token: stock_template(template, token).replace("<|im_start|>assistant", "<|im_start|>model"),
    )
    with pytest.raises(UserError, match="other token ids"):
        export_student(llava, tmp_path / "out", process=fresh)


def test_a_relative_folder(
    tmp_path: Path, llava: LoadedStudent, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (export_student(llava, Path("some/out"), process=fresh).folder / "config.json").is_file()


def test_refusals(tmp_path: Path, root: Path, llava: LoadedStudent, exported: Path) -> None:
    with pytest.raises(UserError, match="unknown kind of checkpoint 'lava': did you mean 'llava'"):
        export_student(llava, tmp_path / "out", to="lava")
    with pytest.raises(UserError, match="exists"):
        export_student(llava, exported)
    with pytest.raises(UserError, match=r"smolvlm cannot hold this student: .*It can be exported to llava"):
        export_student(llava, tmp_path / "out", to="smolvlm")
    assert not list(tmp_path.iterdir())
