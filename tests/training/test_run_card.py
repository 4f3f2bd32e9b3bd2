"""The card of a run: fields that a hub takes, licences that are known or not claimed, and text that keeps its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import validate_repo_id
from markdown_it import MarkdownIt

from taid_vlm.common.markdown import read_card
from taid_vlm.common.origins import Origin, origin_of, shared_licence
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.training.card import model_card

READER = MarkdownIt("commonmark", {"html": True}).enable("table")
HOSTILE = "a\n---\nlicense: mit\n# b <script>x</script> ```\n| c | `d` [e](f)"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, with cards of a model and a data set."""
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, fields in (
        ("models--a--text", "license: mit\nlanguage: [en, ja]"),
        ("datasets--a--data", "license: [mit]"),
    ):
        snapshot = tmp_path / name / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "README.md").write_text(f"---\n{fields}\n---\n# x\n")
        (tmp_path / name / "refs").mkdir()
        (tmp_path / name / "refs" / "main").write_text("0" * 40)
    return tmp_path


def recipe(**changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "description": "A pupil",
        "seed": 7,
        "student": {"language_model": {"source": "a/text"}},
        "teacher": {"language_model": {"source": "a/text"}},
        "data": {"train": [{"kind": "ultrachat", "path": "a/data", "split": "train_sft", "limit": 5}]},
        "loss": {"name": "taid", "alpha_total": 5.9, "t_start": 0.3},
        "training": {"steps": 11, "batch_size": 3, "lr": 3e-4, "warmup_steps": 2},
    }
    return Recipe.model_validate({**content, **changes})


def written(made: Recipe, name: str = "run", measured: tuple[str, ...] = ("held-out kl: 0.5",)) -> str:
    return model_card(made, name, list(measured), {"torch": "2.9"})


def test_fields_are_those_of_a_hub(cached: Path) -> None:
    card = ModelCard(written(recipe()))
    assert card.data.to_dict() == {
        "library_name": "taid-vlm",
        "pipeline_tag": "text-generation",
        "license": "mit",
        "language": ["en", "ja"],
        "base_model": ["a/text"],
        "base_model_relation": "finetune",
        "datasets": ["a/data"],
        "tags": ["taid-vlm", "distillation"],
    }
    for part in (
        "| language model | a/text | mit | full |",
        "| teacher | a/text | mit |  |",
        "| data | a/data | mit | split train_sft, 5 records |",
        "All of these are under mit",
        "| loss | taid |",
        "| clock: t_start | 0.3 |",
        "| clock: alpha_total | 5.9 |",
        "| steps | 11, each of 3 samples of up to 1024 tokens |",
        "| lr | 0.0003 |",
        "| warmup_steps | 2 |",
        "| seed | 7 |",
        "- held-out kl: 0.5",
        "- torch 2.9",
        "## Limits",
    ):
        assert part in card.text, part


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("student", {"student": {"language_model": {"source": "a/other"}}}),
        ("teacher", {"teacher": {"language_model": {"source": "a/other"}}}),
        (
            "data",
            {"data": {"train": [{"kind": "ultrachat", "path": "a/other"}, {"kind": "ultrachat", "path": "a/data"}]}},
        ),
    ],
)
def test_no_licence_is_claimed_where_one_is_unknown(part: str, change: dict[str, Any], cached: Path) -> None:
    text = written(recipe(**change))
    assert "license" not in ModelCard(text).data.to_dict()
    assert "| a/other | unknown |" in text
    assert "No licence is claimed for this student: that of 1 of " in text


def test_nor_where_they_differ_or_are_none_of_the_hubs(cached: Path) -> None:
    other = {"data": {"train": [{"kind": "chatterbot", "path": "asset:chatterbot-corpus"}]}}
    text = written(recipe(**other))
    assert "license" not in ModelCard(text).data.to_dict()
    assert "its sources share none" in text
    assert "| BSD-3-Clause |" in text
    one = [Origin("x", licence="Apache-2.0"), Origin("y", licence="apache-2.0")]
    assert shared_licence(one) == "apache-2.0"
    for licence in ("MIT, its text GPL-3.0-or-later (GCIDE)", "other", "unknown", "", "mit\n---", "x: y"):
        assert shared_licence([Origin("x", licence=licence)]) == ""


def test_trained_parts_alone_are_an_adapter(cached: Path) -> None:
    lora = {"language_model": {"source": "a/text"}, "train": {"language_model": {"mode": "lora", "lora": {"rank": 4}}}}
    text = written(recipe(student=lora, save="trained"))
    assert ModelCard(text).data.base_model_relation == "adapter"
    assert "| lora of rank 4 |" in text
    assert ModelCard(written(recipe(student=lora))).data.base_model_relation == "finetune"


@pytest.mark.parametrize("name", ["quickstart/taid", "quickstart/sft", "paper/taid-vlm/taid"])
def test_shipped_recipes_name_only_what_a_hub_has(name: str) -> None:
    card = ModelCard(written(load_recipe(name)))
    fields = card.data.to_dict()
    for one in [*fields.get("base_model", []), *fields.get("datasets", [])]:
        validate_repo_id(one)
        assert one.count("/") == 1
    assert fields["pipeline_tag"] == "image-text-to-text"
    assert ("distillation" in fields["tags"]) == (name != "quickstart/sft")
    assert "license" not in fields  # of none of them all licences are known


def test_folders_of_this_machine_are_told_by_their_last_name(tmp_path: Path) -> None:
    (tmp_path / "home" / "secret" / "model").mkdir(parents=True)
    (tmp_path / "home" / "secret" / "model" / "README.md").write_text("---\nlicense: other\nlicense_name: ours\n---\n")
    found = origin_of(str(tmp_path / "home" / "secret" / "model"))
    assert (found.name, found.hub, found.licence) == ("model (local)", "", "ours")


@pytest.mark.parametrize(
    "source",
    ["asset:nothing/x", "recipes:nothing", "cache:nothing", "~nobody-here/x", "\0", "x" * 5000, "../x", "a//b", ""],
)
def test_a_source_that_is_not_there_stops_no_run(source: str) -> None:
    assert origin_of(source).licence == "unknown"


def test_text_of_a_recipe_keeps_its_place(tmp_path: Path) -> None:
    """Name, description, sources and figures that look like Markdown, HTML and YAML change no heading, table or field."""

    def made(text: str) -> str:
        changed = recipe(
            description=text,
            student={"language_model": {"source": f"/{text}/m"}},
            teacher={"checkpoint": f"/{text}/t"},
            data={"train": [{"kind": "jsonl", "path": f"/{text}/d", "split": text, "config": text}]},
        )
        return written(changed, name=text, measured=(text,))

    def structure(text: str) -> list[tuple[str, str]]:
        tokens = READER.parse(read_card(text)[1])
        assert not [one for token in tokens for one in token.children or [] if "html" in one.type or "link" in one.type]
        return [(token.type, token.tag) for token in tokens]

    hostile, usual = made(HOSTILE), made("word")
    assert structure(hostile) == structure(usual)
    assert read_card(hostile)[0] == read_card(usual)[0] == ModelCard(hostile).data.to_dict()
    (block,) = [token for token in READER.parse(read_card(hostile)[1]) if token.type == "fence"]
    assert Recipe.model_validate(yaml.safe_load(block.content)).description == HOSTILE
