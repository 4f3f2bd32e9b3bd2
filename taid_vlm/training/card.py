"""The model card that is saved with a student."""

from taid_vlm.recipe.loading import dump_recipe
from taid_vlm.recipe.schema import Recipe


def model_card(recipe: Recipe, name: str, measured: list[str], used: dict[str, str]) -> str:
    """Markdown: what the student is, what was measured of it, how it was made, and how to open it."""
    figures = "\n".join(f"- {line}" for line in measured) or "- nothing during training"
    packages = "\n".join(f"- {key} {value}" for key, value in used.items())
    return f"""---
library_name: taid-vlm
base_model: {recipe.student.language_model.source}
---
# {name}

{recipe.description or "A student trained with taid-vlm."}

Open it with `taid_vlm.load_student(folder)`, or ask it: `taid-vlm chat FOLDER`.

## Measured

{figures}

## Versions

{packages}

## Recipe

```yaml
{dump_recipe(recipe)}```
"""
