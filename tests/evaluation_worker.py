"""Trains and evaluates recipes one after the other in the processes it is started in.

    torchrun --nproc_per_node=2 -m tests.evaluation_worker FOLDER STRATEGY/NAME ...

trains ``FOLDER/NAME.yaml`` under a strategy into ``FOLDER/STRATEGY-NAME``.
"""

import os
import sys
from pathlib import Path

from accelerate import Accelerator

from taid_vlm.recipe import load_recipe
from taid_vlm.run import train_and_evaluate

if __name__ == "__main__":
    Accelerator.end_training = lambda self: None  # type: ignore[method-assign]  # it would end the processes' group
    folder = Path(sys.argv[1])
    for asked in sys.argv[2:]:
        strategy, _, name = asked.partition("/")
        os.environ |= {"ACCELERATE_USE_FSDP": str(strategy == "fsdp2").lower(), "FSDP_VERSION": "2"}
        train_and_evaluate(load_recipe(str(folder / f"{name}.yaml")), folder / f"{strategy}-{name}")
