"""Weights and optimizer state that DeepSpeed keeps in flat shards, as whole tensors by parameter and back."""

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.training.sharding import shard_like

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each element


class ZeroOptimizer:
    """What the loop sees of DeepSpeed's optimizer: ``step``, ``zero_grad``, groups, and AdamW's own form of state.

    Args:
        engine: DeepSpeed's. stage: 2 or 3.
        optimizer: the AdamW that it was given; it now steps flat shards.
        groups: the parameters of each of its groups, as they were before, with the shapes that they had.

    Attributes:
        pending: whether there are gradients that no step has used up.
    """

    def __init__(
        self,
        engine: Any,
        stage: int,
        optimizer: torch.optim.Optimizer,
        groups: list[list[tuple[nn.Parameter, torch.Size]]],
    ) -> None:
        self.engine, self.stage, self.inner, self.groups = engine, stage, optimizer, groups
        self.zero: Any = engine.optimizer
        self.pending = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Rates and names; their parameters are DeepSpeed's."""
        return self.inner.param_groups

    def step(self) -> None:
        """Update the weights, which uses the gradients up."""
        self.engine.step()
        self.pending = False

    def zero_grad(self) -> None:
        """Drop the gradients of a step that is not taken."""
        if self.pending:
            # DeepSpeed can only drop gradients by leaving out a step itself, as it does when they are not finite.
            for gradient in self.gradients():
                gradient.fill_(torch.nan)
            self.step()

    def gradients(self, parameters: Iterable[nn.Parameter] | None = None) -> list[Tensor]:
        """The gradients of groups that ``parameters`` are in (by default all), as this process holds them: it may change them."""
        chosen = None if parameters is None else {id(parameter) for parameter in parameters}
        counted = {i for i, group in enumerate(self.groups) if chosen is None or id(group[0][0]) in chosen}
        return [
            gradient
            for part, gradients in self.zero.averaged_gradients.items()
            if self._group(part) in counted and gradients is not None
            for gradient in gradients
        ]

    def whole(self, parameter: Tensor, main: bool) -> Tensor:
        """A parameter on the CPU of the first process; an empty tensor on the others."""
        with gathered([parameter]):
            return parameter.detach().to("cpu", copy=True) if main else torch.empty(0)

    def state_dict(self) -> dict[str, Any]:
        """As AdamW has it, of whole tensors on the CPU of the first process; on the others they are empty."""
        from deepspeed.utils import safe_get_full_optimizer_state

        main, state, index = self.engine.global_rank == 0, {}, 0
        groups: list[dict[str, Any]] = []
        for number, (group, parameters) in enumerate(zip(self.param_groups, self.groups, strict=True)):
            first = self.inner.state.get(self._flat(number)[0])
            self._link(number)
            for offset, (parameter, shape) in enumerate(parameters):
                if first:
                    entry: dict[str, Tensor] = {"step": first["step"].detach().cpu().clone()}
                    for name in MOMENTS:
                        full = safe_get_full_optimizer_state(parameter, name)
                        entry[name] = full.to("cpu", copy=True).reshape(shape) if main else torch.empty(0)
                    state[index + offset] = entry
            groups.append({**group, "params": list(range(index, index + len(parameters)))})
            index += len(parameters)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back, of whole tensors: each process takes its shards."""
        index = 0
        for number, (group, parameters) in enumerate(zip(self.param_groups, self.groups, strict=True)):
            saved = {key: value for key, value in state["param_groups"][number].items() if key != "params"}
            group.update(saved)
            entries = [state["state"].get(index + offset) for offset in range(len(parameters))]
            index += len(parameters)
            found = next((entry for entry in entries if entry is not None), None)
            if found is None:
                continue
            for flat in self._flat(number):
                on = flat.device if group.get("fused") or group.get("capturable") else torch.device("cpu")
                step = found["step"].detach().clone().to(on)
                self.inner.state[flat] = {"step": step, **{name: torch.zeros_like(flat.data) for name in MOMENTS}}
            self._link(number)
            for (parameter, _), entry in zip(parameters, entries, strict=True):
                for name in MOMENTS if entry is not None else ():
                    _set(parameter, entry[name].to(self.engine.device), name)

    def _link(self, group: int) -> None:
        """Tell the parameters of a group where their state is: DeepSpeed does so in its first step, before most have any."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        flat = self._flat(group)[0]
        if self.stage == 2 and self.inner.state.get(flat):
            lazy_init_hp_params_optimizer_state(self.zero.bit16_groups[group], flat, self.inner.state)

    def _group(self, part: int) -> int:
        return int(self.zero.sub_group_to_group_id[part]) if self.stage == 3 else part

    def _flat(self, group: int) -> list[Tensor]:
        """The flat shards of a group that this process steps; stage 3 may have several."""
        if self.stage == 2:
            return [self.zero.single_partition_of_fp32_groups[group]]
        parts = self.zero.fp32_partitioned_groups_flat
        return [flat for part, flat in enumerate(parts) if self._group(part) == group]


def gathered(parameters: Iterable[Tensor], writes: bool = False) -> Any:
    """A context in which parameters that stage 3 has sharded are whole; what the first process ``writes`` all take over."""
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if writes else None)


@torch.no_grad()
def fill(tensor: Tensor, whole: Tensor) -> None:
    """Write a whole tensor into a parameter or buffer, however it is spread; all processes must call it with the same one."""
    if not hasattr(tensor, "ds_id") and not hasattr(tensor, "_hp_mapping"):
        tensor.copy_(shard_like(tensor, whole.reshape(tensor.shape)))
        return
    with gathered([tensor], writes=True):
        tensor.data.copy_(whole.reshape(tensor.shape))  # DeepSpeed gives a scalar a dimension
    # What the optimizer steps is a copy, or the same memory.
    _set(tensor, whole.to(device=tensor.device, dtype=torch.float32))


def _set(parameter: Any, whole: Tensor, name: str | None = None) -> None:
    """Write a whole state of a parameter (by default its value) where the optimizer has its shard of it."""
    from deepspeed import utils

    if not hasattr(parameter, "ds_id"):
        if name is None:
            utils.safe_set_full_fp32_param(parameter, whole)
        else:
            utils.safe_set_full_optimizer_state(parameter, whole, name)
        return
    # Its own way in stage 3 stops at sizes that the processes do not divide.
    size, rank = parameter.ds_tensor.ds_numel, torch.distributed.get_rank()
    shard = whole.flatten()[rank * size : (rank + 1) * size]
    shard = torch.nn.functional.pad(shard, (0, size - shard.numel()))
    if name is None:
        utils.safe_set_local_fp32_param(parameter, shard)
    else:
        utils.safe_set_local_optimizer_state(parameter, shard, name)
