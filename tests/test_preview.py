"""The command ``taid-vlm preview``."""

import json
from pathlib import Path

import pytest
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.preview import preview_recipe
from tests.process import run
from tests.tiny.recipes import tiny_recipe


@pytest.mark.slow
def test_it_prints_json_and_writes_a_page(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(language_model, easy_vqa).model_dump(mode="json")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    done = run(
        "preview",
        "tiny.yaml",
        "--json",
        "--html",
        "page.html",
        "--samples",
        "2",
        "--split",
        "validation",
        f"data.validation=[{{kind: easy_vqa, path: {easy_vqa}, limit: 7}}]",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["split"], content["records"], content["usable"], len(content["samples"])) == ("validation", 7, 7, 2)
    assert "Preview of tiny.yaml" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_it_shows_and_says_where_the_page_is(
    tmp_path: Path, language_model: Path, easy_vqa: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(language_model, easy_vqa)
    preview_recipe(recipe, "tiny", samples=1, seed=3, html=tmp_path / "page.html")
    out, err = capsys.readouterr()
    assert "Figures of all 24 records" in out
    assert out.endswith(f"page: {tmp_path / 'page.html'}\n")
    assert err == ""
    with pytest.raises(UserError, match="is a folder"):
        preview_recipe(recipe, "tiny", html=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["quickstart/tadi"], "quickstart/taid"), (["quickstart/taid", "loss.alfa=1"], "did you mean 'alpha'")],
)
def test_a_bad_recipe_is_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run("preview", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
