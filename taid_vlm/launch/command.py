"""``taid-vlm launch``: the processes of one machine, started by PyTorch's launcher with the settings of a strategy."""

import os
from collections.abc import Sequence

from taid_vlm.common.errors import UserError
from taid_vlm.common.stopping import RESUMABLE, StoppedError
from taid_vlm.launch.strategies import STRATEGIES

# A step may be long, and a checkpoint has to be written after it before the launcher loses patience.
PATIENCE = 600


def launch(
    arguments: Sequence[str], *, processes: int | None, nodes: int = 1, strategy: str = "ddp", main: str | None = None
) -> None:
    """Run ``taid-vlm train`` with ``arguments`` in several processes, and wait for them.

    Args:
        processes: on this machine; one per GPU when None.
        nodes: machines; the same command is started on each. main: HOST:PORT of one of them, where they meet.
        strategy: exact name of a strategy.

    Raises:
        UserError: settings that cannot work, or a process failed (its own message says why).
        StoppedError: the processes were asked to stop and wrote a checkpoint.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    environment = STRATEGIES.get(strategy).environment
    count = _processes(processes)
    if (nodes > 1) != (main is not None):
        raise UserError("several nodes need --main HOST:PORT, the machine where they meet, and one node needs none")
    os.environ.update(environment)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", str(main)] if nodes > 1 else ["--standalone"]
    options = ["--nnodes", str(nodes), "--nproc-per-node", str(count), *meeting]
    parser = get_args_parser()
    if "--shutdown-timeout" in parser.format_help():
        options += ["--shutdown-timeout", str(PATIENCE)]
    try:
        run(parser.parse_args([*options, "-m", "taid_vlm", "train", *arguments]))
    except SignalException as signalled:
        raise StoppedError(
            "every process was asked to; the same command goes on from the newest checkpoint, see the messages above"
        ) from signalled
    except ChildFailedError as failed:
        codes = {failure.exitcode for failure in failed.failures.values()}
        if RESUMABLE in codes:
            raise StoppedError("a process was asked to; the same command goes on from the last checkpoint") from failed
        rank, failure = failed.get_first_failure()
        raise UserError(
            f"process {rank} of {nodes * count} ended with status {failure.exitcode}; its message is above"
        ) from failed


def _processes(asked: int | None) -> int:
    import torch

    gpus = torch.cuda.device_count()
    if asked is None:
        if not gpus:
            raise UserError("no GPU was found: say how many processes of the CPU to start, with --gpus N")
        return gpus
    if gpus and asked > gpus:
        raise UserError(f"--gpus {asked}, but this machine has {gpus}; choose at most {gpus}")
    return asked
