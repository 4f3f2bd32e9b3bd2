"""The card of an exported checkpoint: what it is, how it was proven, what it was made from, and under which licences."""

from typing import Any

import yaml

from taid_vlm.common.versions import versions
from taid_vlm.export.facts import Parts
from taid_vlm.export.gate import Proof

HOW = {
    "language_model": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")""",
    "stock": """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
messages = [{"role": "user", "content": [{"type": "image", "path": "picture.png"}, {"type": "text", "text": "What is it?"}]}]
inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))""",
}


def export_card(
    parts: Parts, kind: str, proofs: tuple[Proof, ...], notes: tuple[str, ...], about: str, name: str
) -> str:
    """Markdown with the fields that a hub reads.

    Args:
        about: Markdown of the run: recipe and what was measured.
    """
    how = HOW["language_model"] if kind == "language_model" else HOW["stock"]
    if kind == "custom":
        how = how.replace('pretrained("FOLDER")', 'pretrained("FOLDER", trust_remote_code=True)')
    warnings = "".join(f"\n> {note}\n" for note in notes)
    packages = "\n".join(f"- {key} {value}" for key, value in versions().items())
    return f"""---
{yaml.safe_dump(_fields(parts, kind), sort_keys=False).strip()}
---
# {name}

A student trained with taid-vlm, as `{proofs[0].architecture}`.
{warnings}
```python
{how}
```

## Parts and licences

{_parts_table(parts)}

The licence of this checkpoint follows from those of its parts and of its training data: name it in the field `license` above
before publishing.

## Proof

Reloaded in a fresh process, with no missing and no unexpected parameter: largest difference of logits to the trained student
{proofs[0].difference:.1e} in fp32, greedy answers equal. {_pixels(kind, proofs[0])}

## Versions

{packages}

{about}"""


def _fields(parts: Parts, kind: str) -> dict[str, Any]:
    sees = kind != "language_model"
    return {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "license": "other",
        "base_model": _bases(parts, sees),
        "tags": ["distillation", "taid-vlm"],
    }


def _bases(parts: Parts, sees: bool) -> list[str]:
    encoder = parts.spec.vision_encoder
    return [parts.spec.language_model.source, *([encoder.name] if sees and encoder is not None else [])]


def _parts_table(parts: Parts) -> str:
    spec = parts.spec
    rows = [("language model", spec.language_model.source, parts.facts.text)]
    if spec.vision_encoder is not None and spec.projector is not None:
        rows.append(
            (
                "vision encoder",
                f"{spec.vision_encoder.name} ({spec.vision_encoder.library})",
                spec.vision_encoder.weights,
            )
        )
        rows.append(("projector", spec.projector.name, "trained here"))
    lines = [f"| {part} | {source} | {what} |" for part, source, what in rows]
    return "\n".join(["| part | source | |", "|---|---|---|", *lines])


def _pixels(kind: str, proof: Proof) -> str:
    if kind == "language_model":
        return ""
    return (
        f"The stock image processor resizes by another library than training did: pixels of resized pictures differ by up to "
        f"{proof.pixel_difference:.3f} (normalised values)."
    )
