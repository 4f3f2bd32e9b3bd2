"""A teacher on a server: vLLM's prompt log-probabilities in place of hidden states; see docs/served-teacher.md."""

from taid_vlm.training.served.opening import open_served, refuse_served_pictures
from taid_vlm.training.served.teacher import ServedTeacher

__all__ = ["ServedTeacher", "open_served", "refuse_served_pictures"]
