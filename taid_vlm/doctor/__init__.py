"""``taid-vlm doctor``: what this machine and this installation have, what is missing and what that would give, and what to do."""

from taid_vlm.doctor.command import examine
from taid_vlm.doctor.findings import Findings, look

__all__ = ["Findings", "examine", "look"]
