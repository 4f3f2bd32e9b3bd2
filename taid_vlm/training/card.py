"""The model card that is saved with a student."""

from importlib.metadata import PackageNotFoundError, version

from taid_vlm.recipe.loading import dump_recipe
from taid_vlm.recipe.schema import Recipe


def versions() -> dict[str, str]:
    """Versions of the packages that decide a run's numbers."""
    found = {}
    for name in ("taid-vlm", "torch", "transformers", "timm", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def model_card(recipe: Recipe, name: str, figures: dict[str, float]) -> str:
    """Markdown: what the student is, how it was made, and how to open it."""
    measured = "\n".join(f"- held-out {key}: {value:.4f}" for key, value in figures.items()) or "- none during training"
    used = "\n".join(f"- {key} {value}" for key, value in versions().items())
    return f"""---
library_name: taid-vlm
base_model: {recipe.student.language_model.source}
---
# {name}

{recipe.description or "A student trained with taid-vlm."}

Open it with `taid_vlm.load_student(folder)`, or ask it: `taid-vlm chat FOLDER`.

## Measured while training

{measured}

## Versions

{used}

## Recipe

```yaml
{dump_recipe(recipe)}```
"""
