"""Where a run goes when nobody says: no two shipped recipes share a folder, and a folder with another run is refused."""

from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import list_recipes, load_recipe, recipes_folder
from taid_vlm.recipe.run_names import run_folder_for
from taid_vlm.training.run_folder import check_run_folder
from tests.training.test_run_folder import take


def test_no_two_shipped_recipes_share_a_folder() -> None:
    folders = [run_folder_for(name) for name in list_recipes()]
    assert len(set(folders)) == len(folders)
    assert all(folder.parent == Path("runs") for folder in folders)


@pytest.mark.parametrize(
    ("recipe", "folder"),
    [
        ("quickstart/taid", "runs/taid"),
        ("quickstart/language", "runs/language"),
        ("modern/qwen3", "runs/modern-qwen3"),
        ("paper/ultrachat/phi3-tinyllama/taid", "runs/paper-ultrachat-phi3-tinyllama-taid"),
        ("recipes/paper/taid-vlm/kl.yaml", "runs/paper-taid-vlm-kl"),
    ],
)
def test_the_folder_is_the_name_of_the_recipe(recipe: str, folder: str) -> None:
    assert run_folder_for(recipe) == Path(folder)
    by_path = recipes_folder() / f"{recipe.removeprefix('recipes/').removesuffix('.yaml')}.yaml"
    assert run_folder_for(str(by_path)) == Path(folder)


def test_a_file_of_ones_own_gives_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 0\n")
    assert run_folder_for(str(tmp_path / "mine.yaml")) == Path("runs/mine")
    with pytest.raises(UserError, match="recipe not found"):
        run_folder_for(str(tmp_path / "other.yaml"))


def test_a_run_of_another_recipe_is_neither_resumed_nor_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = (load_recipe(f"paper/ultrachat/{pair}/taid") for pair in ("phi3-tinyllama", "llama2-tinyllama"))
    folder = Path("runs/taid")
    take(folder, one)
    (folder / "student").mkdir()
    (folder / "student" / "student.json").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for refuses in (check_run_folder, take):
        with pytest.raises(
            UserError, match=r"runs/taid holds a run of another recipe \(differs in: .*choose another --output"
        ):
            refuses(folder, other)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
