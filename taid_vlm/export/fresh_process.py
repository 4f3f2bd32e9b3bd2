"""What a stranger's process does with a checkpoint: load it with stock transformers, prepare, run, answer.

This text runs by itself (``python -c``), with nothing of this package imported. It reads one job a line, as JSON, and
answers each with one line. Tensors travel in safetensors files.
"""

import json
import sys
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

KINDS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def load(job: dict[str, Any]) -> tuple[Any, Any, dict[str, list[str]]]:
    """Model, tokenizer or processor, and the keys that did not fit."""
    trust = {"trust_remote_code": job["trust"]}
    family: Any = AutoModelForImageTextToText if job["sees"] else AutoModelForCausalLM
    model, info = family.from_pretrained(job["folder"], dtype=torch.float32, output_loading_info=True, **trust)
    preparing: Any = AutoProcessor if job["sees"] else AutoTokenizer
    prepare = preparing.from_pretrained(job["folder"], **trust)
    return model.eval(), prepare, {kind: sorted(map(str, info[kind])) for kind in KINDS if info[kind]}


def probe(model: Any, prepare: Any, probe: dict[str, Any]) -> dict[str, Any]:
    """Prepare one conversation with the stock processor, run it with the pixels that are given."""
    inputs = prepare.apply_chat_template(
        probe["messages"], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    given = load_file(probe["given"]) if probe["given"] else {}
    shapes, difference = {}, 0.0
    for name, tensor in given.items():
        shapes[name] = [list(inputs[name].shape), list(tensor.shape)]
        if inputs[name].shape == tensor.shape:
            difference = max(difference, float((inputs[name].float() - tensor.float()).abs().max()))
            inputs[name] = tensor
    ids = inputs["input_ids"][0].tolist()
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if wrong or ids != probe["ids"]:  # what the model says to other inputs does not matter
        return {"ids": ids, "shapes": wrong, "pixel_difference": difference}
    with torch.no_grad():
        logits = model(**inputs).logits.float()
        out = model.generate(**inputs, max_new_tokens=probe["new_tokens"], do_sample=False)
    save_file({"logits": logits.contiguous()}, probe["out"])
    return {"ids": ids, "shapes": {}, "pixel_difference": difference, "generated": out[0, len(ids) :].tolist()}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """One job: a folder and its probes."""
    model, prepare, wrong = load(job)
    return {"keys": wrong, "class": type(model).__name__, "probes": [probe(model, prepare, p) for p in job["probes"]]}


def main() -> None:
    """Jobs from standard input, answers to standard output."""
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # whatever a stranger would meet is the answer
            found = {"error": f"{type(error).__name__}: {error}"}
        print("ANSWER " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
