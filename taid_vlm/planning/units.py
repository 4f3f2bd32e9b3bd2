"""The pieces in which a model is gathered where its weights are shared out: layers one at a time, and the rest."""

from dataclasses import dataclass

from torch import nn

from taid_vlm.models.language_model import backbone_of
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.repeated import repeated_layers
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import TeacherModel


@dataclass(frozen=True)
class Unit:
    """Weights that are gathered together.

    Attributes:
        parameters: their number. trained: those that learn. bytes: as the model has them in memory.
        language: whether it is a decoder layer of the language model.
        forward, backward: whether a training step runs it so.
    """

    parameters: int = 0
    trained: int = 0
    bytes: int = 0
    language: bool = False
    forward: bool = True
    backward: bool = False


@dataclass(frozen=True)
class Units:
    """A model cut into units.

    Attributes:
        root: what is in no layer. names: of the parameters of all layers.
        head, embeddings: bytes of both tables, which are in the root; embeddings that are tied to the head have none.
    """

    root: Unit
    layers: tuple[Unit, ...]
    names: frozenset[str]
    head: int
    embeddings: int

    @property
    def largest(self) -> Unit:
        """The layer with the most weights; an empty one where there is none."""
        return max(self.layers, key=lambda unit: unit.parameters, default=Unit())

    @property
    def bytes(self) -> int:
        """Of the whole model."""
        return self.root.bytes + sum(layer.bytes for layer in self.layers)

    @property
    def decoder(self) -> int:
        """Bytes of the language model's layers."""
        return sum(layer.bytes for layer in self.layers if layer.language)

    @property
    def trained(self) -> int:
        """Parameters that learn."""
        return self.root.trained + sum(layer.trained for layer in self.layers)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.root.parameters + sum(layer.parameters for layer in self.layers)


def units_of(model: TeacherModel, *, cached_features: bool = False) -> Units:
    """Cut a student or a teacher into units.

    Args:
        cached_features: the vision encoder is not run in training, so its layers are never gathered.
    """
    encoder = model.vision_encoder if isinstance(model, Student) else None
    eyes = set(encoder.modules()) if encoder is not None else set()
    decoder = model.native.get_decoder() if isinstance(model, NativeModel) else backbone_of(model.language_model)
    words = set(decoder.modules())
    learns = any(p.requires_grad for p in model.parameters())
    sees = any(p.requires_grad for p in encoder.parameters()) if encoder is not None else False
    taken: set[int] = set()
    layers = []
    for module in repeated_layers(model):
        ours = module in eyes
        run, back = not (ours and cached_features), sees if ours else learns
        layers.append(_unit(module, taken, language=module in words, forward=run, backward=back))
    names = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in taken)
    root = _unit(model, taken, language=False, forward=True, backward=learns)
    table, head = _embeddings(model), model.head.weight
    return Units(root, tuple(layers), names, head.nbytes, 0 if table is head else table.nbytes)


def _embeddings(model: TeacherModel) -> nn.Parameter:
    owner = model.native if isinstance(model, NativeModel) else model.language_model
    weight: nn.Parameter = owner.get_input_embeddings().weight  # type: ignore[operator]
    return weight


def _unit(module: nn.Module, taken: set[int], *, language: bool, forward: bool, backward: bool) -> Unit:
    own = [p for p in module.parameters() if id(p) not in taken]
    taken.update(map(id, own))
    counts = (sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad), sum(p.nbytes for p in own))
    return Unit(*counts, language, forward, backward)
