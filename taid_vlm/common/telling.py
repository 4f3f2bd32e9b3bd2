"""What a person is told on a terminal: text that the terminal shows and does not obey, and no secrets."""

import sys

from taid_vlm.common.secrets import without_secrets
from taid_vlm.common.visible import visible


def for_terminal(text: str) -> str:
    """Text that may quote data, models, servers and file names, as it may be printed."""
    return visible(without_secrets(text))


def tell(text: str) -> None:
    """A line on standard error, at once."""
    print(for_terminal(text), file=sys.stderr, flush=True)
