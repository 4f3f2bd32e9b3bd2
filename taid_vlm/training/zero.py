"""ZeRO stages 2 and 3 (arXiv 1910.02054) by DeepSpeed, for those who want it rather than FSDP2.

accelerate's settings say which stage. Its own way with DeepSpeed is not taken: there the processes of a CPU are not told
of each other, a step cannot be left out, and models are made in shards before they can be changed. So accelerate only
sees plain processes, and the engine is made here.
"""

import contextlib
import copy
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.sharding import scalars
from taid_vlm.training.zero_state import ZeroOptimizer

ASKS = "ACCELERATE_USE_DEEPSPEED"
STAGES = {2: "zero2", 3: "zero3"}


@contextlib.contextmanager
def hidden_from_accelerate() -> Iterator[None]:
    """While accelerate starts: it joins the processes as it does without DeepSpeed."""
    asked = os.environ.pop(ASKS, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[ASKS] = asked


def asked_for(world: int) -> str | None:
    """The strategy that accelerate's settings ask for; None without DeepSpeed.

    Raises:
        UserError: DeepSpeed is asked for and not installed, cannot be in force, or with settings that do not work here.
    """
    if os.environ.get(ASKS, "false").lower() != "true":
        return None
    try:
        import deepspeed  # noqa: F401
    except ImportError as error:
        raise UserError(
            "accelerate's settings ask for DeepSpeed, which is not installed: pip install 'taid-vlm[deepspeed]', or use the strategy "
            "fsdp2, which does the same and needs nothing"
        ) from error
    started = int(os.environ.get("WORLD_SIZE", "0"))
    if started != world:
        raise UserError(
            f"DeepSpeed needs processes that were started together ({started or 'none'} were, and {world} found each other); start with: "
            f"taid-vlm launch RECIPE --strategy zero2"
        )
    return STAGES[_stage(_settings())]


class Zero:
    """A module and its optimizer in the hands of DeepSpeed, which shards gradients and optimizer state, and in stage 3 weights.

    Attributes:
        optimizer: to step with and to save; schedules act on the one it was made of.
    """

    def __init__(
        self,
        strategy: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        precision: str,
        world: int,
    ) -> None:
        check(strategy, recipe, precision)
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.stage = _stage(_settings())
        groups = [[(parameter, parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
        # DeepSpeed looks for what gradients come from in tuples, not in a class of ours.
        module.register_forward_hook(lambda _, given, out: (out.loss, out))
        self.linear = torch.nn.functional.linear
        self.scalars = scalars(module)
        for parameter in self.scalars:
            parameter.data = parameter.data.view(1)  # without a dimension DeepSpeed cannot send it
        self.engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=_config(recipe, precision, world)
        )
        self.engine.register_forward_hook(lambda _, given, out: out[1])
        self.optimizer = ZeroOptimizer(self.engine, self.stage, optimizer, groups)

    def micro_batch(self, last: bool) -> None:
        """Say whether a micro-batch is the last one of its step, before its forward."""
        self.engine.set_gradient_accumulation_boundary(last)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, averaged over the processes and added to those of earlier micro-batches."""
        self.optimizer.pending = True
        self.engine.backward(loss, scale_wrt_gas=False)

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> float:
        """Clip gradients to a norm over all of them and all processes; returns the norm before."""
        gradients = self.optimizer.gradients(parameters)
        local = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        for gradient in gradients:
            local += torch.linalg.vector_norm(gradient, dtype=torch.float64).square()
        torch.distributed.all_reduce(local)
        norm = local.sqrt()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))
        return float(norm)

    def release(self, student: nn.Module, main: bool) -> None:
        """Make the student's parameters plain again, in place: whole on the CPU of the first process, empty on the others."""
        made: dict[int, nn.Parameter] = {}  # a tied parameter stays tied
        places = [
            (module, name, parameter)
            for module in student.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        for _, _, parameter in places:
            if id(parameter) not in made:
                full = self.optimizer.whole(parameter, main)
                if main and any(parameter is scalar for scalar in self.scalars):
                    full = full.reshape(())
                made[id(parameter)] = nn.Parameter(full, requires_grad=parameter.requires_grad)
        self.engine.destroy()
        torch.nn.functional.linear = self.linear
        for module, name, parameter in places:
            # Stage 3 has put a dictionary of its own there, which gathers what is read.
            module._parameters = dict(module._parameters.items())
            module._parameters[name] = made[id(parameter)]


def check(strategy: str, recipe: Recipe, precision: str) -> None:
    """Refuse what does not go with DeepSpeed.

    Raises:
        UserError: names the key and what to do.
    """
    training = recipe.training
    instead = "or use the strategy fsdp2"
    if training.optimizer != "adamw":
        raise UserError(
            f"training.optimizer: {training.optimizer} does not go with {strategy}, which gives an optimizer all parameters as one "
            f"vector; set optimizer: adamw"
        )
    if precision == "fp16":
        raise UserError(f"training.precision: fp16 does not go with {strategy}; set it to bf16 or fp32, {instead}")
    if strategy == "zero3" and training.ema is not None:
        raise UserError(f"training.ema does not go with zero3; leave it out, {instead}, or zero2")
    if strategy == "zero3" and recipe.on_policy.sampler != "none":
        raise UserError(f"on_policy.sampler does not go with zero3; set it to none, {instead}, or zero2")
    if strategy == "zero3" and training.compile:
        raise UserError(f"training.compile does not go with zero3; leave it out, {instead}, or zero2")


def _settings() -> dict[str, Any]:
    from accelerate.utils import DeepSpeedPlugin

    # From the environment, where accelerate's launcher put what its config file says.
    settings: dict[str, Any] = copy.deepcopy(DeepSpeedPlugin().deepspeed_config)
    return settings


def _stage(settings: dict[str, Any]) -> int:
    stage = settings["zero_optimization"].get("stage")
    if stage not in STAGES:
        raise UserError(f"zero_stage {stage} in accelerate's DeepSpeed settings; choose 2 or 3, or no DeepSpeed")
    return int(stage)


def _config(recipe: Recipe, precision: str, world: int) -> dict[str, Any]:
    """DeepSpeed's config: the ZeRO section of accelerate's settings, and what the recipe says."""
    sharding = {key: value for key, value in _settings()["zero_optimization"].items() if value != "auto"}
    for part in ("offload_optimizer", "offload_param"):
        device = (sharding.pop(part, None) or {}).get("device", "none")
        if device != "none":
            raise UserError(
                f"accelerate's DeepSpeed settings move {part.removeprefix('offload_')} to {device!r}, which is not supported; set "
                f"{part}_device: none"
            )
    # In stage 3 it may replace F.linear, for the whole process: of use under autocast alone, whose copies in bf16 of all
    # gathered weights would wait for the backward.
    sharding.setdefault("memory_efficient_linear", precision == "bf16")
    return {
        "zero_optimization": sharding,
        "zero_allow_untested_optimizer": True,
        "train_micro_batch_size_per_gpu": recipe.training.samples_per_forward(world),
        "gradient_accumulation_steps": recipe.training.forwards_per_step(world),
        "gradient_clipping": 0.0,  # done here, where the norm is known before the step
        # The engine would switch the loop's autocast off; this is the same one. Nothing travels in bf16.
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16", "lower_precision_safe_modules": []},
        "steps_per_print": float("inf"),
    }
