"""Names of places: shipped recipes and the cache are found wherever they are, all else is left as it is written."""

import pytest

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import recipes_folder, resolve


def test_shipped_recipes_and_the_cache_have_names() -> None:
    assert resolve("recipes:quickstart/teacher") == str(recipes_folder() / "quickstart" / "teacher")
    (cache_folder() / "mine").mkdir(parents=True)
    assert resolve("cache:mine") == str(cache_folder() / "mine")


@pytest.mark.parametrize("written", ["/a/recipes:b", "./cache", "owner/name", "recipes", "recipes:", "C:/models"])
def test_all_else_is_left_as_it_is(written: str) -> None:
    assert resolve(written) == written


def test_what_is_not_there_is_named_with_the_folder_to_look_into() -> None:
    with pytest.raises(UserError) as told:
        resolve("recipes:quickstart/teechar")
    assert (
        str(told.value)
        == f"recipes:quickstart/teechar: 'recipes' holds no 'quickstart/teechar'; look into {recipes_folder()}"
    )
