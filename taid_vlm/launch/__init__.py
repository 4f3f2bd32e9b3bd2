"""Start a run on several processes."""

from taid_vlm.launch.command import launch
from taid_vlm.launch.strategies import STRATEGIES, config_file

__all__ = ["STRATEGIES", "config_file", "launch"]
