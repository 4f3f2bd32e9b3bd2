"""The digest of weights misses nothing."""

import torch

from taid_vlm.models.fingerprint import weights_digest


def test_the_digest_sees_every_value_of_every_type() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2).bfloat16())
    seen = {weights_digest(module)}
    for name in ("0.num_batches_tracked", "0.running_mean", "1.weight"):
        module.state_dict()[name].add_(1)
        seen.add(weights_digest(module))
    assert len(seen) == 4
