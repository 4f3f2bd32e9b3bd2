"""What a recipe will take, told before any weight is loaded: parts, lengths, memory, arithmetic, exports."""

from taid_vlm.planning.plan import make_plan
from taid_vlm.planning.schema import Plan
from taid_vlm.planning.show import show

__all__ = ["Plan", "make_plan", "show"]
