"""What the stock multimodal classes have in common: the language model's part, and the obstacles of every one of them."""

import copy
from typing import Any

from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.targets.target import Obstacle
from taid_vlm.export.towers import convert_tower


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


def normed_obstacle(facts: Facts) -> list[Obstacle]:
    """The class reads the tower's final output, the student another layer."""
    if facts.feature == "normed":
        return []
    return [Obstacle("it reads what comes after the last norm", "set vision_encoder.feature to normed")]


def thumbnail_obstacle(facts: Facts) -> list[Obstacle]:
    """The stock processor of dynamic tiles has no switch for the thumbnail."""
    images = facts.images
    if images.tiling != "dynamic" or images.thumbnail or images.max_tiles == 1:
        return []
    return [Obstacle("the stock processor always adds a thumbnail to several tiles", "set images.thumbnail to true")]


def picture_obstacles(facts: Facts, style: str, tilings: tuple[str, ...] = ("none",)) -> list[Obstacle]:
    """The class takes the root of the number of tokens for the side, or its processor writes other markers or makes other tiles."""
    found = []
    if not facts.square:
        found.append(Obstacle("the class takes square grids only", "choose an encoder with a square grid"))
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


def text_config(parts: Parts) -> Any:
    """The language model's config, naming its class (llama.cpp and vLLM look for it there)."""
    language_model: Any = parts.student.language_model
    config = copy.deepcopy(language_model.config)
    config.architectures = [type(language_model).__name__]
    config.tie_word_embeddings = tied(parts.facts)
    return config


def text_fields(parts: Parts) -> dict[str, Any]:
    """What the config of every class says of the language model."""
    return {"text_config": text_config(parts), "tie_word_embeddings": tied(parts.facts)}


def image_token_id(parts: Parts) -> int:
    """Id of the placeholder."""
    assert parts.student.image_token_id is not None
    return parts.student.image_token_id


def tokens_per_tile(parts: Parts) -> int:
    """How many placeholders the student's processor writes for a tile."""
    assert parts.processor.images is not None
    return parts.processor.images.per_tile


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
    state = prefixed(prefix, base)
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


def converted(parts: Parts, towers: tuple[str, ...]) -> tuple[Any, dict[str, Tensor]]:
    """Config and tensors of the encoder as the first of ``towers``' classes that it becomes, in the encoder's own order."""
    assert parts.student.vision_encoder is not None
    return convert_tower(parts.student.vision_encoder, next(name for name in parts.facts.towers if name in towers))


def native_state(
    parts: Parts,
    vision: dict[str, Tensor],
    projector: dict[str, Tensor] | None = None,
    *,
    names: tuple[str, str, str] = ("vision_tower", "multi_modal_projector", "language_model"),
) -> dict[str, Tensor]:
    """The state dict of a class that calls its tower, projector and language model by ``names``, most by the usual ones.

    ``projector`` is the student's own unless given.
    """
    tower, joint, text = names
    joined = projector_state(parts) if projector is None else projector
    state = prefixed(f"model.{tower}.", vision) | prefixed(f"model.{joint}.", joined)
    return state | text_state(parts, f"model.{text}.")
