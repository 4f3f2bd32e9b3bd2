"""How a student is trained by several processes: copied (DDP) or in shards (FSDP2, ZeRO), as accelerate's launch settings ask.

accelerate starts the processes and knows their ranks. Sharding is PyTorch's ``fully_shard`` called here, on a CPU as on a
GPU, so that what the tests run with gloo is what runs with NCCL.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.student import Student
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.sharding import scalars, shard
from taid_vlm.training.zero import Zero, asked_for
from taid_vlm.training.zero_state import gathered


class Distribution:
    """One process among those of a run.

    Attributes:
        strategy: how the student is spread: single (one process), ddp, fsdp2, zero2 or zero3.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.main, self.device = accelerator.is_main_process, accelerator.device
        self.strategy = _asked(self.world)
        self._scalars: list[nn.Parameter] = []
        self._sharded: nn.Module | None = None
        self._zero: Zero | None = None

    def wrap(self, module: nn.Module, precision: str) -> nn.Module:
        """The module to call in training; under FSDP2 its parameters are sharded in place, so make optimizers afterwards.

        Under ZeRO it is what :meth:`join` returns.
        """
        if self.strategy == "single" or self.strategy.startswith("zero"):
            return module.to(self.device)
        if self.strategy == "ddp":
            wrapped: nn.Module = self.accelerator.prepare_model(module)
            return wrapped
        self._scalars = [p for p in scalars(module) if p.requires_grad]
        for part in module.modules():
            if isinstance(part, Student):
                part.in_shards = True
        self._sharded = shard(module.to(self.device), self.device.type, self.world, precision)
        return self._sharded

    def join(self, module: nn.Module, optimizer: Any, recipe: Recipe, precision: str) -> tuple[nn.Module, Any]:
        """The wrapped module and its optimizer: given to DeepSpeed under ZeRO, otherwise as they are.

        Schedules are made before, of the optimizer that is given.

        Raises:
            UserError: the recipe has an option that ZeRO does not know.
        """
        if not self.strategy.startswith("zero"):
            return module, optimizer
        for part in module.modules():
            if isinstance(part, Student):
                part.in_shards = self.strategy == "zero3"
        self._zero = Zero(self.strategy, module, optimizer, recipe, precision, self.world)
        return self._zero.engine, self._zero.optimizer

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, added to those of earlier micro-batches."""
        if self._zero is not None:
            self._zero.backward(loss)
        else:
            loss.backward()

    @contextlib.contextmanager
    def micro_batch(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Forward and backward of a micro-batch. DDP exchanges gradients with the last one; FSDP2 with each, for
        gradients that wait would be whole. So does ZeRO, whose gradients are in shards."""
        if self._zero is not None:
            self._zero.micro_batch(last)
        if self.strategy == "ddp" and not last:
            with self.accelerator.no_sync(module):
                yield
        else:
            yield
        if self.strategy == "fsdp2" and last:
            for parameter in self._scalars:  # too small to shard
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.world

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> float:
        """Clip gradients to a norm over all of them; returns the norm before."""
        if self._zero is not None:
            return self._zero.clip(parameters, max_norm)
        norm = torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def sum(self, values: list[float]) -> list[float]:
        """Each value summed over all processes, in fp64; the same bits on all of them."""
        if self.world == 1:
            return values
        local = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(local)
        return local.tolist()

    def agree(self, value: Any, what: str) -> None:
        """Go on only if all processes have the same value.

        Raises:
            UserError: they differ.
        """
        found = self.gather(value)
        if any(other != found[0] for other in found):
            raise UserError(
                f"processes do not see the same {what}: process 0 has {found[0]!r}, others have "
                f"{sorted({repr(other) for other in found if other != found[0]})}; --output must be a folder that all machines share"
            )

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, by rank; it travels by pickle."""
        return [value] if self.world == 1 else list(gather_object([value]))

    def whole(self, state: Any) -> Any:
        """A state with every shard made whole, on the CPU of the first process; other processes get empty tensors.

        All processes must call it, with the same state.
        """
        if isinstance(state, dict):
            return {key: self.whole(value) for key, value in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(self.whole(value) for value in state)
        if isinstance(state, DTensor):
            local: Any = state.detach()
            full = local.full_tensor()  # may still be on its way: a copy waits for it
            return full.to("cpu", copy=True) if self.main else torch.empty(0)
        if hasattr(state, "ds_id"):  # a parameter of ZeRO stage 3; elsewhere that is an empty tensor
            with gathered([state]):
                return state.detach().to("cpu", copy=True) if self.main else torch.empty(0)
        return state.detach() if isinstance(state, Tensor) else state

    def reshard(self) -> None:
        """Give back what is gathered still: the outermost unit is, after a forward without a backward."""
        for module in self._sharded.modules() if self._sharded is not None else ():
            if isinstance(module, FSDPModule):
                module.reshard()

    def share_buffers(self, module: nn.Module) -> None:
        """The first process's running statistics (batch norm) for all, so that all are of one student; DDP sees to it by itself."""
        if self.strategy in ("single", "ddp"):
            return
        for buffer in module.buffers():
            if buffer.is_floating_point():
                torch.distributed.broadcast(buffer, 0)

    def unshard(self, student: nn.Module) -> None:
        """Make the parameters plain and whole again, in place: on the CPU of the first process; the others keep none.

        For saving after training; all processes must call it.
        """
        if self._zero is not None:
            self._zero.release(student, self.main)
        if self._sharded is None:
            return
        self.reshard()  # what is gathered still would come back with the next look at the state
        made: dict[int, nn.Parameter] = {}  # a tied parameter stays tied
        for module in student.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if isinstance(parameter, DTensor):
                    if id(parameter) not in made:
                        full = self.whole(parameter)
                        made[id(parameter)] = nn.Parameter(full, requires_grad=parameter.requires_grad)
                    module.register_parameter(name, made[id(parameter)])


def _asked(world: int) -> str:
    """The strategy that accelerate's settings in the environment ask for."""
    if (zero := asked_for(world)) is not None:
        return zero
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" and world > 1:
        version = os.environ.get("FSDP_VERSION", "1")
        if version != "2":
            raise UserError(
                f"accelerate asks for FSDP version {version}, this toolkit shards by version 2: set fsdp_version: 2 in accelerate's "
                f"config file, or start with: taid-vlm launch RECIPE --strategy fsdp2"
            )
        return "fsdp2"
    return "ddp" if world > 1 else "single"
