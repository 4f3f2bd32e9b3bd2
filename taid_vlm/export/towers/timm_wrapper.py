"""Any timm model in transformers' TimmWrapperModel, which builds it with timm again."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from taid_vlm.models.vision_encoder import VisionEncoder


def timm_wrapper(encoder: VisionEncoder) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Fields of the config and weights, in the order in which they are worth trying.

    Its ``last_hidden_state`` is ``forward_features``: class and register tokens stay in front, maps stay maps. More
    than one is given where open_clip changed how the model pools after building it, which timm takes as an argument.
    """
    assert encoder.timm_model is not None
    name, options = encoder.timm_model
    state = {f"timm_model.{key}": tensor.detach() for key, tensor in encoder.backbone.state_dict().items()}
    choices = [options]
    pool = getattr(encoder.backbone, "global_pool", None)  # of CNNs it is a module, or there is none
    if encoder.contract.family == "open_clip_timm" and isinstance(pool, str):
        choices.append(options | {"global_pool": pool})
    for arguments in choices:
        yield (
            {"architecture": name, "model_args": arguments or None, "do_pooling": False, "num_labels": 0},
            dict(state),
        )
