"""What a program writes to a terminal."""

import os
import time


def read_terminal(ours: int, seconds: float = 60) -> bytes:
    """All that comes to our side of a pseudo-terminal, until the other one is closed."""
    said, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            more = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not more:
            break
        said += more
    return said
