"""The entry point by which lmms-eval finds our models, under the name ``taid_vlm``.

Importing this imports nothing of lmms-eval, and nothing heavy of ours.
"""

from typing import Any


def manifest() -> Any:
    """What lmms-eval's registry asks of an entry point of the group ``lmms_eval.models``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="taid_vlm", chat_class_path="taid_vlm_eval.bridges.lmms_model.TaidVLM")
