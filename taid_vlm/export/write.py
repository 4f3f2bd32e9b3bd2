"""Writing a student as a stock checkpoint: weights, processor, card, the plain language model, and the proof."""

import json
import re
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.files import new_folder, require_space
from taid_vlm.export.card import About, export_card
from taid_vlm.export.custom import CUSTOM
from taid_vlm.export.facts import Facts, Parts, facts_of
from taid_vlm.export.gate import FreshProcess, Proof, check_reload
from taid_vlm.export.plan import fitting
from taid_vlm.export.probes import picture_probes, text_probe
from taid_vlm.export.processors import stock_tokenizer
from taid_vlm.export.record import Exported, fingerprint, write_record
from taid_vlm.export.targets import TARGETS, Native, Target
from taid_vlm.models.loaded import LoadedStudent

LANGUAGE_MODEL = "language_model"
KINDS = ("auto", *TARGETS, "custom", LANGUAGE_MODEL)
SHARD = "5GB"
# vLLM and llama.cpp look for a CLIP or SigLIP tower under this name; transformers reads both.
TOWER_KEYS = re.compile(r"(^|\.)vision_tower\.(embeddings|encoder|pre_layrnorm|post_layernorm|head)\.")
NESTED_TOWERS = ("clip_vision_model", "siglip_vision_model", "siglip2_vision_model")


def export_student(
    loaded: LoadedStudent, target: Path, to: str = "auto", process: FreshProcess | None = None, about: About = About()
) -> Exported:
    """Write ``loaded`` to ``target`` and prove in a fresh process that stock transformers gives the same.

    Args:
        to: ``auto`` for the first class that fits (``custom`` if none does, ``language_model`` without pictures), or the
            name of a class.
        process: one to use again for several exports.
        about: the recipe and what was measured, for the card.

    Raises:
        UserError: the target exists, the class cannot hold the student, there is no space, or the proof failed; then
            nothing is left.
    """
    if target.exists():
        raise UserError(f"{target} exists; choose another folder")
    kind, facts = chosen_kind(loaded, to)
    parts = Parts(loaded.student, loaded.processor, loaded.spec, facts)
    needed = sum(p.nbytes for p in loaded.student.parameters())
    require_space(target, int(2.1 * needed), "the exported checkpoint and its plain language model")
    with nullcontext(process) if process else FreshProcess() as fresh, new_folder(target) as folder:
        if kind == LANGUAGE_MODEL:
            _write_language_model(parts, folder)
            proofs: tuple[Proof, ...] = (check_reload(folder, [text_probe(parts)], fresh, sees=False),)
            notes: tuple[str, ...] = ()
        else:
            proofs, notes = _write_multimodal(parts, CUSTOM if kind == "custom" else TARGETS.get(kind), folder, fresh)
        done = Exported(kind, target, proofs, notes)
        (folder / "README.md").write_text(
            export_card(loaded.spec, kind, proofs, notes, about, target.name), encoding="utf-8"
        )
        write_record(done, folder, fingerprint(loaded.sha256, loaded.spec.model_dump(mode="json")))
    return done


def chosen_kind(loaded: LoadedStudent, to: str) -> tuple[str, Facts]:
    """The kind of checkpoint that ``to`` comes to for this student, and the facts that decide it.

    Raises:
        UserError: unknown, or it cannot hold the student: why, and what can.
    """
    if to not in KINDS:
        raise UserError(f"unknown kind of checkpoint {to!r}: {did_you_mean(to, KINDS)}")
    facts = facts_of(loaded.student, loaded.processor, loaded.spec)
    if to == LANGUAGE_MODEL:
        return to, facts
    if to == "auto":
        return fitting(facts) or ("custom" if facts.sees else LANGUAGE_MODEL), facts
    if not facts.sees:
        raise UserError(f"a plain language model cannot be exported to {to!r}: export to language_model")
    found = (CUSTOM if to == "custom" else TARGETS.get(to)).obstacles(facts)
    if found:
        reasons = "; ".join(f"{obstacle.reason} ({obstacle.change})" for obstacle in found)
        other = fitting(facts) or ("another kind once that is changed" if to == "custom" else "custom")
        raise UserError(f"{to} cannot hold this student: {reasons}. It can be exported to {other}")
    return to, facts


def _write_multimodal(
    parts: Parts, target: Target, folder: Path, fresh: FreshProcess
) -> tuple[tuple[Proof, ...], tuple[str, ...]]:
    native = target.native(parts)
    _save_native(native, target, parts, folder)
    plain = folder / LANGUAGE_MODEL
    plain.mkdir()
    _write_language_model(parts, plain)
    words = text_probe(parts)
    with tempfile.TemporaryDirectory() as scratch:
        probes = [words, *picture_probes(parts, target, Path(scratch))]
        proof = check_reload(folder, probes, fresh, sees=True, trust=target.name == "custom")
    return (proof, check_reload(plain, [words], fresh, sees=False)), native.notes


def _save_native(native: Native, target: Target, parts: Parts, folder: Path) -> None:
    model = native_model(native, target)
    model.generation_config = generation_config(parts)
    model.save_pretrained(folder, max_shard_size=SHARD)
    if native.config.vision_config.model_type in NESTED_TOWERS:
        _nest_tower(folder)
    native.processor.save_pretrained(folder)
    _name_classes(folder, model)


def native_model(native: Native, target: Target) -> Any:
    """An instance of the class with the student's tensors, none copied.

    Raises:
        UserError: a tensor is missing or has no place; that is a mistake of the export.
    """
    import transformers

    architecture = native.architecture if target.name == "custom" else getattr(transformers, target.architecture)
    model = architecture(native.config)
    try:
        model.load_state_dict(native.state, strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"the student does not fit {target.architecture}: {error}") from error
    model.tie_weights()
    return model.eval()


def generation_config(parts: Parts) -> Any:
    """Greedy, ending with the student's end of turn."""
    from transformers import GenerationConfig

    tokenizer = parts.processor.tokenizer
    end = parts.processor.end_of_turn_id
    return GenerationConfig(eos_token_id=end, pad_token_id=end, bos_token_id=tokenizer.bos_token_id, do_sample=False)


def _write_language_model(parts: Parts, folder: Path) -> None:
    language_model: Any = parts.student.language_model
    language_model.generation_config = generation_config(parts)
    language_model.save_pretrained(folder, max_shard_size=SHARD)
    stock_tokenizer(parts).save_pretrained(folder)


def _nest_tower(folder: Path) -> None:
    """Name the tower's tensors as vLLM and llama.cpp look for them."""

    def renamed(name: str) -> str:
        return TOWER_KEYS.sub(r"\1vision_tower.vision_model.\2.", name)

    for file in folder.glob("*.safetensors"):
        save_file({renamed(name): tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text())
        content["weight_map"] = {renamed(name): file for name, file in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2) + "\n")


def _name_classes(folder: Path, model: Any) -> None:
    """Name the language model's class in its config, where llama.cpp looks for it, and leave the tower's unnamed.

    For the tower llama.cpp knows only the name of the whole class, which it takes when the tower has none of its own.
    """
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["text_config"]["architectures"] = model.config.text_config.architectures
    content["vision_config"].pop("architectures", None)
    file.write_text(json.dumps(content, indent=2) + "\n")
