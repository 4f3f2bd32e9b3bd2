"""Recipes and tasks whose aliases explode, or that hold themselves, are refused at once; and no tag makes an object."""

import time
from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import load_recipe
from taid_vlm.recipe.source import read_source
from taid_vlm_eval.strict_yaml import read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
NESTED = "a0: &a0 {x: x}\n" + "".join(
    f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}\n" for n in range(1, 12)
)
ITSELF = "a: &a\n  b: *a\n"


@pytest.mark.parametrize("text", [LAUGHS, NESTED, ITSELF], ids=["lists", "mappings", "itself"])
def test_a_file_that_explodes_is_refused_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    started = time.process_time()
    for read in (load_recipe, read_yaml):
        with pytest.raises(UserError, match=r"x\.yaml stands for more than 100,000 values, or holds itself"):
            read(tmp_path / "x.yaml")
    assert time.process_time() - started < 5


def test_usual_aliases_stay_usable(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &one {b: 1}\nc: *one\n")
    assert read_source(tmp_path / "x.yaml").content == {"a": {"b": 1}, "c": {"b": 1}}
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}, "c": {"b": 1}}
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") is None


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!!python/module:this"])
def test_a_tag_makes_no_object(tmp_path: Path, tag: str) -> None:
    (tmp_path / "x.yaml").write_text(f"description: {tag} ['{tmp_path / 'made'}']\n")
    for read in (load_recipe, read_yaml):
        with pytest.raises(UserError, match=r"x\.yaml"):
            read(tmp_path / "x.yaml")
    assert not (tmp_path / "made").exists()
