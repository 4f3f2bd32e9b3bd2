"""What is said when another process of the run is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from taid_vlm.common.errors import UserError
from taid_vlm.training.distribution import Distribution

# What gloo and NCCL say of a peer that closed its end, or did not come within the time allowed.
WORDS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out",
    "NCCL",
    "unhandled system",
)


@contextmanager
def lost_processes(distribution: Distribution) -> Iterator[None]:
    """Turn the failed exchange with a process that died into a message.

    Raises:
        UserError: another process ended or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        exchange = isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in WORDS)
        if distribution.world == 1 or not exchange:
            raise
        first = str(error).splitlines()[0]
        raise UserError(
            f"process {distribution.rank} of {distribution.world} lost another process ({first}); that one's own message, above, says "
            f"why. The same command goes on from the last checkpoint"
        ) from error
