"""Weight files of vision encoders, matched by name or by order."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.common.remote_code import NOT_PLAIN


def load_weights(backbone: nn.Module, weights: str, match: str) -> None:
    """Fill ``backbone`` from a weight file; nothing to do for ``pretrained`` and ``random``.

    Args:
        weights: path or asset:NAME/path of a .safetensors or torch file.
        match: ``names``, or ``order`` where only the order and the shapes agree.

    Raises:
        UserError: no such file, or one that does not fit.
    """
    if weights in ("pretrained", "random"):
        return
    path = Path(resolve(weights))
    if not path.is_file():
        raise UserError(
            f"vision encoder weights not found: {path}; give a file, asset:NAME/path, 'pretrained' or 'random'"
        )
    found = load_file(path) if path.suffix == ".safetensors" else _torch_file(path)
    expected = backbone.state_dict()
    if match == "order":
        found = _match_by_order(found, expected, path)
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    wrong = [k for k, v in found.items() if k in expected and v.shape != expected[k].shape]
    surplus = [k for k in found if k not in expected]
    if missing or wrong or surplus:
        raise UserError(
            f"{path.name} does not fit the vision encoder: {len(missing)} parameters missing {missing[:3]}, {len(surplus)} unknown "
            f"{surplus[:3]}, {len(wrong)} of another shape {wrong[:3]}. If only the names differ, set weights_match: order"
        )
    backbone.load_state_dict(found, strict=False)


def _torch_file(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(f"cannot load {path} as weights of the vision encoder: {NOT_PLAIN}") from error
    except (RuntimeError, EOFError, ValueError) as error:
        why = (str(error).splitlines() or ["it is empty"])[0]
        raise UserError(f"cannot read {path}: {why}; is it a whole file of weights?") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"cannot read {path}: expected parameters by their names")
    return found


def _match_by_order(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    # Batch counters are not weights, and old checkpoints lack them.
    have = [v for k, v in found.items() if not k.endswith("num_batches_tracked")]
    want = [(k, v) for k, v in expected.items() if not k.endswith("num_batches_tracked")]
    if len(have) != len(want) or any(a.shape != b.shape for a, (_, b) in zip(have, want, strict=False)):
        raise UserError(
            f"{path.name} does not fit the vision encoder in order: it holds {len(have)} tensors, the model {len(want)}, and every "
            f"pair must have one shape; check that the file belongs to this architecture"
        )
    return {k: a for a, (k, _) in zip(have, want, strict=True)}
