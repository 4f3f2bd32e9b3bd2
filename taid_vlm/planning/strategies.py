"""How the student is spread over the processes of a run, and what of it each process holds and sends."""

from dataclasses import dataclass

from taid_vlm.common.registry import Registry
from taid_vlm.planning.stored import FP32


@dataclass(frozen=True)
class Strategy:
    """One way to spread weights, gradients and AdamW's state over N processes. All are held and summed in fp32.

    Attributes:
        weights_shared: each process holds an N-th of the weights, and layers are gathered when they are run.
        states_shared: each process holds an N-th of gradients and optimizer state.
        engine: DeepSpeed does it. It updates a copy of its share, gathers in fp32 and sums in buckets of its own.
    """

    weights_shared: bool = False
    states_shared: bool = False
    engine: bool = False

    def gathered(self, bf16: bool) -> int:
        """Bytes of a weight of a gathered layer; the rest of the model, with embeddings and head, is gathered in fp32."""
        return 2 if bf16 and not self.engine else FP32


STRATEGIES: Registry[Strategy] = Registry("strategy")
for _name, _strategy in {
    "single": Strategy(),
    "ddp": Strategy(),
    # torch's fully_shard (arXiv 2304.11277)
    "fsdp2": Strategy(weights_shared=True, states_shared=True),
    # ZeRO (arXiv 1910.02054), stages 2 and 3 of DeepSpeed
    "zero2": Strategy(states_shared=True, engine=True),
    "zero3": Strategy(weights_shared=True, states_shared=True, engine=True),
}.items():
    STRATEGIES.register(_name)(_strategy)
SEVERAL = tuple(name for name in STRATEGIES if name != "single")
