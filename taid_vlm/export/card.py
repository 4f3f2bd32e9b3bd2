"""The card of an exported checkpoint: what it is, how it is loaded, how it was proven, what it was made from, and under which licences."""

from dataclasses import dataclass, field
from typing import Any

from taid_vlm.common.markdown import card, plain, table
from taid_vlm.common.versions import versions
from taid_vlm.export.gate import Proof
from taid_vlm.models.origins import part_origins
from taid_vlm.models.specs import StudentSpec

# FOLDER stands for the folder, until the export has a name on a hub.
HOW = {
    "language_model": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
messages = [{"role": "user", "content": "What is it?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))""",
    "stock": """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
messages = [{"role": "user", "content": [{"type": "image", "path": "picture.png"}, {"type": "text", "text": "What is it?"}]}]
inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))""",
}
NO_LICENCE = """No licence is claimed: it follows from the licences of these parts, of the teacher and of the data. Look them up, and name it in the
field `license` above before publishing."""
KEPT = ("license", "language", "base_model", "base_model_relation", "datasets")  # of the card of the run


@dataclass(frozen=True)
class About:
    """What is known of the student beside its weights.

    Attributes:
        fields: of the card that its run has written. text: Markdown of the recipe and what was measured.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    text: str = ""


def export_card(
    spec: StudentSpec, kind: str, proofs: tuple[Proof, ...], notes: tuple[str, ...], about: About, name: str
) -> str:
    """Markdown with the fields that a hub reads."""
    how, told = HOW["language_model" if kind == "language_model" else "stock"], about.text
    if kind == "custom":
        how = how.replace('pretrained("FOLDER")', 'pretrained("FOLDER", trust_remote_code=True)')
        told = told.replace("taid-vlm eval FOLDER ", "taid-vlm eval FOLDER --trust-remote-code ")
    warnings = "".join(f"\n> {note}\n" for note in notes)
    packages = "\n".join(f"- {key} {value}" for key, value in versions().items())
    # The card of a run has this section, and of more than the parts.
    made_from = "" if "## Parts\n" in about.text.splitlines(keepends=True) else f"{_made_from(spec)}\n\n"
    body = f"""# {plain(name)}

A student trained with taid-vlm, as `{proofs[0].architecture}`.
{warnings}
```python
{how}
```

{made_from}## Proof

Reloaded in a fresh process, with no missing and no unexpected parameter: largest difference of logits to the trained student
{proofs[0].difference:.1e} in fp32, greedy answers equal. {_pixels(kind, proofs[0])}

Exported with:

{packages}

{told}"""
    return card(_fields(spec, kind, about), body)


def _fields(spec: StudentSpec, kind: str, about: About) -> dict[str, Any]:
    known = about.fields or _fields_of_spec(spec)
    return {
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if kind == "language_model" else "image-text-to-text",
        **{key: known[key] for key in KEPT if key in known},
        "tags": [*known.get("tags", ["taid-vlm"]), *(["custom_code"] if kind == "custom" else [])],
    }


def _fields_of_spec(spec: StudentSpec) -> dict[str, Any]:
    origins = [one.origin for one in part_origins(spec) if one.origin is not None]
    bases = list(dict.fromkeys(origin.hub for origin in origins if origin.hub))
    # Of a teacher and of the data nothing is known, so no licence.
    return {"base_model": bases, "base_model_relation": "finetune"} if bases else {}


def _made_from(spec: StudentSpec) -> str:
    rows = [(one.part, one.name, one.origin.licence if one.origin else "random start") for one in part_origins(spec)]
    cells = table(("part", "source", "licence"), [tuple(map(plain, row)) for row in rows])
    return f"## Parts\n\n{cells}\n\n{NO_LICENCE}"


def _pixels(kind: str, proof: Proof) -> str:
    if kind == "language_model":
        return ""
    return (
        f"The stock image processor resizes by another library than training did: pixels of resized pictures differ by up to "
        f"{proof.pixel_difference:.3f} (normalised values)."
    )
