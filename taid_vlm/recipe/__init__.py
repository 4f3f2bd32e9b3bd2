"""Recipes: one YAML file names the student, the teacher, the data, the loss and the schedule of a run."""

from taid_vlm.common.paths import recipes_folder
from taid_vlm.recipe.loading import description_of, dump_recipe, find_recipe, list_recipes, load_recipe
from taid_vlm.recipe.schema import Recipe

__all__ = ["Recipe", "description_of", "dump_recipe", "find_recipe", "list_recipes", "load_recipe", "recipes_folder"]
