"""What a recipe will take, told before any weight is loaded: parts, lengths, memory, arithmetic, traffic, exports."""

from taid_vlm.planning.pace import Rates
from taid_vlm.planning.plan import make_plan
from taid_vlm.planning.scale import Cluster
from taid_vlm.planning.schema import Plan
from taid_vlm.planning.show import show

__all__ = ["Cluster", "Plan", "Rates", "make_plan", "show"]
