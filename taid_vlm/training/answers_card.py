"""The card of a data set of answers that a teacher has written: from which questions, by whom, and under which licences."""

from collections.abc import Sequence

from taid_vlm.common.markdown import card, plain, table
from taid_vlm.common.origins import about_licence, origin_of, shared_licence
from taid_vlm.common.versions import versions
from taid_vlm.data import Record
from taid_vlm.recipe import Recipe
from taid_vlm.training.card import sources_of, teacher_origin

FOLLOWS = "the licences of the sources, and from what the teacher's says of its outputs"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def answers_card(recipe: Recipe, name: str, written: Sequence[Record], asked: int, precision: str) -> str:
    """Markdown with the fields that a hub and ``datasets`` read.

    Args:
        name: of the data set. written: its records. asked: how many records the recipe has.
        precision: that the teacher ran in.
    """
    teacher, pictures = teacher_origin(recipe), any(record.images for record in written)
    assert teacher is not None  # who else has written
    data = list(dict.fromkeys(origin_of(source.path, "dataset") for source in recipe.data.train))
    fields = {
        "license": shared_licence([teacher, *data]),
        "language": sorted({one for origin in data for one in origin.languages}),
        "task_categories": ["image-text-to-text" if pictures else "text-generation"],
        "size_categories": [next((said for most, said in SIZES if len(written) < most), "n>1M")],
        "tags": ["taid-vlm", "synthetic", "distillation"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    rows = [
        ("teacher, who wrote the last answers", teacher.name, teacher.licence, ""),
        *sources_of(recipe.data.train, "questions"),
    ]
    packages = "\n".join(f"- {key} {value}" for key, value in versions().items())
    columns = [
        (
            "messages",
            "role and content of each turn, the content as parts of type text or image; the last is the teacher's",
        ),
        *([("images", "the pictures, in the order of the image parts")] if pictures else []),
    ]
    body = f"""# {plain(name)}

Questions of other data sets with answers that a model has written: {len(written)} of {asked} records. Of the others the answer did not end, was
empty or could not be asked for. Nobody has read the answers: what the model has wrong, or says of people, is in them.

## Sources

{table(("what", "name", "licence", "taken"), [tuple(map(plain, row)) for row in rows])}

{about_licence([teacher, *data], "data set", FOLLOWS)}

## How they were written

Greedy, up to {recipe.data.answer_tokens} tokens, to questions of up to {recipe.data.max_length} tokens, in {precision}, seed of the choice of records {recipe.seed}, with:

{packages}

## Columns

{table(("column", "content"), columns)}

```python
from datasets import load_dataset

data = load_dataset("FOLDER", split="train")
```

In a recipe of taid-vlm it is a source: `{{kind: huggingface, path: FOLDER}}`.
"""
    return card(fields, body)
