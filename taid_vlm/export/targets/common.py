"""What the stock multimodal classes have in common: the language model's part, and the obstacles of every one of them."""

import copy
from typing import Any

import torch
from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.targets.target import Obstacle

SHUFFLE_LINEAR = "use projector pixel_shuffle_linear with a SigLIP encoder (feature: normed) and images.style smolvlm"


def usual_obstacles(facts: Facts, name: str) -> list[Obstacle]:
    """Obstacles that do not depend on the class: what it does after the language model, and whose projector it has."""
    found = []
    if not facts.sees:
        return [Obstacle("a plain language model has no pictures", "export to language_model")]
    if name not in facts.native_classes:
        found.append(
            Obstacle(
                f"{name} has another projector than {facts.projector!r}", f"set projector.name to one of {name}'s own"
            )
        )
    if facts.scaling.softcap is not None:
        found.append(
            Obstacle(
                f"{facts.text} caps its logits (at {facts.scaling.softcap:g}), and the stock multimodal classes leave the cap out",
                "choose a language model without a cap, such as Llama or Qwen",
            )
        )
    if facts.head_bias:
        found.append(
            Obstacle("the head has a bias, which the class has not", "choose a language model whose head has none")
        )
    return found


def tower_obstacle(facts: Facts, wanted: tuple[str, ...], description: str) -> list[Obstacle]:
    """The encoder becomes none of the towers ``wanted``."""
    if any(tower in wanted for tower in facts.towers):
        return []
    assert facts.contract is not None
    have = f"{facts.contract.family or 'this encoder'} read at {facts.feature}"
    return [Obstacle(f"the class needs {description}; {have} does not become one exactly", f"choose {description}")]


def style_obstacle(facts: Facts, style: str, tilings: tuple[str, ...] = ("none",)) -> list[Obstacle]:
    """The stock processor writes other markers, or makes other tiles."""
    found = []
    if facts.images.style != style:
        found.append(
            Obstacle(
                f"its processor writes pictures in style {style}, the student learnt {facts.images.style}",
                f"set images.style to {style}",
            )
        )
    if facts.images.tiling not in tilings:
        found.append(
            Obstacle(
                f"its processor does not tile as {facts.images.tiling!r}",
                f"set images.tiling to {' or '.join(tilings)}",
            )
        )
    return found


def square_obstacle(facts: Facts) -> list[Obstacle]:
    """The class takes the root of the number of tokens for the side."""
    if facts.square:
        return []
    return [Obstacle("the class takes square grids only", "choose an encoder with a square grid")]


def text_config(parts: Parts) -> Any:
    """The language model's config, naming its class (llama.cpp and vLLM look for it there)."""
    language_model: Any = parts.student.language_model
    config = copy.deepcopy(language_model.config)
    config.architectures = [type(language_model).__name__]
    config.tie_word_embeddings = tied(parts.facts)
    return config


def image_token_id(parts: Parts) -> int:
    """Id of the placeholder."""
    assert parts.student.image_token_id is not None
    return parts.student.image_token_id


def feature_layer(facts: Facts) -> int:
    """Which of a tower's hidden states is read; for towers where the last one is also the normed one."""
    return -1 if isinstance(facts.feature, str) else facts.feature


def tied(facts: Facts) -> bool:
    """Whether the exported head is the embedding: a logit scale is multiplied into the head, which sets it apart."""
    return facts.tied and facts.scaling.scale == 1


def text_state(parts: Parts, prefix: str) -> dict[str, Tensor]:
    """The language model's tensors under ``prefix``, and ``lm_head.weight``.

    The stock multimodal classes know of no logit scale (Granite's, say), so the head takes it up.
    """
    language_model: Any = parts.student.language_model
    base = language_model.base_model.state_dict()
    state = {prefix + name: tensor for name, tensor in base.items()}
    head: Tensor = parts.student.head.weight.detach()
    scale = parts.facts.scaling.scale
    state["lm_head.weight"] = head if scale == 1 else (head.float() * scale).to(head.dtype)
    return state


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every name with ``prefix`` before it."""
    return {prefix + name: tensor for name, tensor in state.items()}


def projector_state(parts: Parts) -> dict[str, Tensor]:
    """The projector's tensors under its own names, which are the native ones."""
    assert parts.student.projector is not None
    return {name: tensor.detach() for name, tensor in parts.student.projector.state_dict().items()}


def identity(width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of an affine map that changes nothing, bit for bit."""
    return torch.eye(width, dtype=like.dtype), torch.zeros(width, dtype=like.dtype)
