"""What a projector is, the table of all of them, and how one is built from its spec."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, get_args, get_type_hints

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import PROJECTORS as GROUP
from taid_vlm.common.plug_ins import PlugIn
from taid_vlm.common.registry import Registry
from taid_vlm.models.specs import ProjectorSpec
from taid_vlm.models.vision_encoder import EncoderContract

Option = bool | int | float


class Projector(Protocol):
    """What a projector offers beside being an ``nn.Module``; its constructor takes
    ``(contract, hidden_size, *, options...)``, and the signature is what users' options are checked against.

    Attributes:
        native_classes: transformers' model types whose own projector it can be. On the class: under some options and
            grids; on an instance: under its own. The encoder and the language model may narrow it further.
    """

    native_classes: tuple[str, ...]

    def tokens_out(self) -> int:
        """Tokens that one picture (one tile) becomes."""
        ...

    def start(self, embedding_std: float) -> None:
        """Make outputs as large as the token embeddings, which is what the language model was trained on."""
        ...

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, tokens_out, hidden_size]``."""
        ...


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
OFFERS = ("forward", "tokens_out", "start", "native_classes")


def _adopted(plug_in: PlugIn, found: Any) -> type[nn.Module]:
    """A class that a package brings, checked as far as that goes before it is built."""
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{plug_in.what} is {found!r}, expected a class below torch.nn.Module")
    if lacking := [name for name in OFFERS if not hasattr(found, name)]:
        raise UserError(f"{plug_in.what} lacks {', '.join(lacking)}: taid_vlm.plug_ins.Projector says what they are")
    kinds = get_type_hints(found.__init__)
    for option in _options_of(found):
        if not any(kind in _KINDS for kind in (get_args(kinds.get(option)) or (kinds.get(option),))):
            raise UserError(f"option {option} of {plug_in.what} needs an annotation: bool, int or float")
    return found


PROJECTORS: Registry[type[nn.Module]] = Registry("projector", GROUP, _adopted)


def build_projector(
    spec: ProjectorSpec, contract: EncoderContract, hidden_size: int, embedding_std: float
) -> nn.Module:
    """The projector that ``spec`` names, its output as large as the token embeddings.

    Raises:
        UserError: unknown name or option, an option of the wrong kind, or a grid that the projector cannot take.
    """
    check_options(spec.name, spec.options)
    projector = PROJECTORS.get(spec.name)(contract, hidden_size, **spec.options)
    projector.start(embedding_std)  # type: ignore[operator]
    return projector


def check_options(name: str, options: Mapping[str, Option]) -> None:
    """Refuse options that the projector ``name`` does not have, or values of another kind; ranges are checked by the
    projector itself, which knows the grid.

    Raises:
        UserError: what is wrong, and what would be right.
    """
    known = projector_options(name)
    kinds = get_type_hints(PROJECTORS.get(name).__init__)
    for key, value in options.items():
        if key not in known:
            listed = f"it has {', '.join(known)}; {did_you_mean(key, known)}" if known else "it has none"
            raise UserError(f"projector {name!r} has no option {key!r}: {listed}")
        kind = next(k for k in (get_args(kinds[key]) or (kinds[key],)) if k in _KINDS)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits:
            example = "" if known[key] is None else f" such as {str(known[key]).lower()}"
            raise UserError(f"option {key} of projector {name!r} is {value!r}, expected {_KINDS[kind]}{example}")


def projector_options(name: str) -> dict[str, Option | None]:
    """Options of the projector ``name`` with their defaults, in order; None is a default that follows from the sizes.

    Raises:
        UserError: unknown name.
    """
    return _options_of(PROJECTORS.get(name))


def _options_of(kind: type[nn.Module]) -> dict[str, Option | None]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


@torch.no_grad()
def scale_last(projector: nn.Module, last: nn.Linear, shape: tuple[int, ...], target_std: float) -> None:
    """Scale ``last``, and drop its bias, so that features of unit variance give outputs of ``target_std``.

    Only that layer changes, so the arithmetic stays the native one. Nothing happens on the meta device.

    Args:
        shape: of the probe that is sent through, ``[..., feature_dim]``.
    """
    if last.weight.is_meta:
        return
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    last.weight.mul_(target_std / projector(probe).std())
    last.bias.zero_()


def probe_shape(contract: EncoderContract) -> tuple[int, int, int]:
    """Whole pictures, about 256 tokens of them: for projectors that need a grid."""
    cells = contract.grid[0] * contract.grid[1]
    return (max(1, 256 // cells), cells, contract.feature_dim)


def at_least(name: str, **values: int) -> None:
    """Refuse options below 1.

    Raises:
        UserError: which one.
    """
    for key, value in values.items():
        if value < 1:
            raise UserError(f"option {key} of projector {name!r} is {value}, expected 1 or more")
