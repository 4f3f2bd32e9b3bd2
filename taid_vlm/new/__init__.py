"""``taid-vlm new``: from a few answers to a commented recipe."""

from taid_vlm.new.answers import Answers
from taid_vlm.new.write import write_new

__all__ = ["Answers", "write_new"]
