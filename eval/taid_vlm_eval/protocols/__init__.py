"""Protocols: how a task is asked and scored so that figures can be put beside those of another harness, by family of models.

A protocol is a YAML file of this folder. ``default`` is none of them: under it, every task is what its own file says.
"""

from taid_vlm_eval.protocols.applying import require_task, under, with_data
from taid_vlm_eval.protocols.families import FAMILIES, choose_family, family_of, require_choice
from taid_vlm_eval.protocols.loading import DEFAULT, PROTOCOLS, load_protocol

__all__ = [
    "DEFAULT",
    "FAMILIES",
    "PROTOCOLS",
    "choose_family",
    "family_of",
    "load_protocol",
    "require_choice",
    "require_task",
    "under",
    "with_data",
]
