"""Which checkpoints are opened as stock models, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Pairer, Record
from taid_vlm.models.native.families import FAMILIES
from taid_vlm.models.native.loading import is_native, open_native
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.teacher import teacher_from_checkpoint, teacher_without_weights
from taid_vlm.models.vocabulary import shared_vocabulary
from taid_vlm.recipe.data_spec import DataSpec
from taid_vlm.recipe.teacher_spec import TeacherSpec
from tests.tiny.native import HEAD, MAKERS, VOCABULARY, native_tokenizer, save_native

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}<IMG_CONTEXT>\n{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_native(tmp_path_factory.mktemp("internvl") / "teacher", "internvl", chat_template=CHATML)


@pytest.mark.parametrize("placeholder", ["<IMG_CONTEXT>", "<image>"])
def test_a_checkpoint_whose_own_template_asks_the_same_is_opened(
    tmp_path: Path, internvl: Path, placeholder: str
) -> None:
    folder = Path(shutil.copytree(internvl, tmp_path / "copy"))
    (folder / "chat_template.jinja").write_text(CHATML.replace("<IMG_CONTEXT>", placeholder))
    model, processor = open_native(str(folder))
    assert placeholder in processor.stock.chat_template
    assert model.head.weight.shape[0] == HEAD


def test_a_checkpoint_whose_own_template_asks_otherwise_is_refused_until_one_is_named(tmp_path: Path) -> None:
    other = save_native(tmp_path / "other", "internvl", chat_template=CHATML.replace("assistant\n", "bot\n"))
    with pytest.raises(UserError, match=r"own chat template asks '.*bot'.*teacher.chat_template: chatml to keep ours"):
        open_native(str(other))
    open_native(str(other), "chatml")


def test_a_plain_language_model_is_sent_to_its_own_key(language_model: Path) -> None:
    with pytest.raises(UserError, match=r"family 'llama'.*known|family 'llama'.*teacher.language_model"):
        teacher_from_checkpoint(str(language_model))


def test_a_folder_of_neither_kind_is_told_apart(tmp_path: Path) -> None:
    assert not is_native(str(tmp_path))
    with pytest.raises(UserError, match="not a saved student"):
        teacher_from_checkpoint(str(tmp_path))
    assert is_native("OpenGVLab/InternVL3-8B-hf")
    with pytest.raises(UserError, match="cannot load the teacher 'nobody/nothing'"):
        teacher_from_checkpoint("nobody/nothing")


@pytest.mark.parametrize(
    "name", ["./stuednt", "../stuednt", "runs/stuednt", "runs/taid/stuednt", "/nowhere/x", "~/nowhere"]
)
def test_a_mistyped_path_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for folder in ("here/student", "here/runs/student", "here/runs/taid/student", "student"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for ask in (is_native, teacher_from_checkpoint):
        with pytest.raises(UserError, match=f"no checkpoint at {re.escape(name)}: there is no such folder") as told:
            ask(name)
        assert ("did you mean 'student'" in str(told.value)) == name.endswith("stuednt")
        assert ("For a hub id" in str(told.value)) == (name == "runs/stuednt")
    assert is_native("nobody/student")


def test_a_language_model_without_a_known_template_is_refused(tmp_path: Path, internvl: Path) -> None:
    from transformers import AutoConfig

    folder = Path(shutil.copytree(internvl, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    assert AutoConfig.for_model("gemma2")
    config["text_config"]["model_type"] = "gemma2"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"family 'gemma2' \(known: llama, phi3, qwen2, qwen3\); name one in teacher"):
        open_native(str(folder))


def test_another_processor_of_the_family_is_refused(tmp_path: Path) -> None:
    folder = save_native(tmp_path / "llava", "llava")
    MAKERS["llava_next"](native_tokenizer("llava")).save_pretrained(folder)
    with pytest.raises(UserError, match="LlavaNextProcessor, LlavaProcessor was expected"):
        open_native(str(folder))


def test_pan_and_scan_is_refused(tmp_path: Path) -> None:
    folder = save_native(tmp_path / "gemma", "gemma3")
    processor = MAKERS["gemma3"](native_tokenizer("gemma3"))
    processor.image_processor.do_pan_and_scan = True
    processor.save_pretrained(folder)
    with pytest.raises(UserError, match="do_pan_and_scan"):
        open_native(str(folder))


def test_sizes_are_asked_for(internvl: Path) -> None:
    _, processor = open_native(str(internvl))
    look = [{"role": "user", "content": [{"type": "image"}]}]
    with pytest.raises(UserError, match=r"pass \(width, height\) of each of the 1 pictures"):
        processor.render(look)
    with pytest.raises(UserError, match="1 pictures came with 2 sizes"):
        processor.render(look, sizes=[(8, 8), (8, 8)])


@pytest.mark.parametrize(("student", "teacher"), [(HEAD + 8, HEAD), (HEAD, HEAD + 8), (VOCABULARY, HEAD)])
def test_heads_with_rows_to_spare_are_cut_to_the_tokens(student: int, teacher: int) -> None:
    ours, theirs = native_tokenizer("qwen2_vl"), native_tokenizer("qwen2_vl")
    assert shared_vocabulary(ours, theirs, student, teacher) == VOCABULARY


def test_the_fingerprint_follows_weights_template_and_pictures(tmp_path: Path, internvl: Path) -> None:
    before = teacher_from_checkpoint(str(internvl)).fingerprint
    assert teacher_from_checkpoint(str(shutil.copytree(internvl, tmp_path / "copy"))).fingerprint == before
    assert teacher_from_checkpoint(str(internvl), "qwen2_vl").fingerprint != before
    sharper = MAKERS["internvl"](native_tokenizer("internvl"))
    sharper.image_processor.max_patches = 2
    sharper.save_pretrained(tmp_path / "copy")
    assert teacher_from_checkpoint(str(tmp_path / "copy"), "chatml").fingerprint != before


@pytest.mark.parametrize("family", MAKERS)
def test_without_weights_nothing_is_allocated(tmp_path: Path, family: str) -> None:
    folder = save_native(tmp_path / family, family)
    model = teacher_without_weights(str(folder), None, None).model
    assert all(p.is_meta for p in model.parameters())
    loaded, _ = open_native(str(folder))
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in loaded.named_parameters()}


def test_a_cached_teacher_keeps_its_head(internvl: Path) -> None:
    teacher = teacher_from_checkpoint(str(internvl))
    head = teacher.head_weight.clone()
    teacher.keep_head()
    assert isinstance(teacher.model, NativeModel)
    assert torch.equal(teacher.head_weight, head)
    assert [name for name, _ in teacher.model.named_parameters()] == ["native.lm_head.weight"]


def test_a_picture_that_the_stock_processor_refuses_is_a_bad_sample(tmp_path: Path) -> None:
    _, processor = open_native(str(save_native(tmp_path / "qwen", "qwen2_vl")))
    Image.new("RGB", (4, 1200)).save(tmp_path / "thin.png")
    look = [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "thin"}]
    with pytest.raises(
        BadSampleError, match=r"sample thin: the teacher takes no pictures of 4 x 1200 pixels: .*aspect"
    ):
        Pairer(processor, None, 100).pair(Record("thin", look, (tmp_path / "thin.png",)))


def test_the_page_names_every_family_with_its_templates_and_its_recipes_parse() -> None:
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text()
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `")]
    named = {family: re.findall(r"`(\w+)`", cells[2]) for cells in rows for family in re.findall(r"`(\w+)`", cells[0])}
    assert {family: sorted(set(templates)) for family, templates in named.items()} == {
        name: sorted(set(FAMILIES.get(name).templates.values())) for name in FAMILIES
    }
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        content = yaml.safe_load(block)
        if "teacher" in content:
            TeacherSpec.model_validate(content["teacher"])
        if "data" in content:
            DataSpec.model_validate(content["data"] | {"train": [{"kind": "easy_vqa", "path": "."}]})
