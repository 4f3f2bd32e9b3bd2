"""The gate that every export passes: a fresh process with stock transformers must give the same logits."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from taid_vlm.common.errors import UserError

# Runs with nothing of ours imported, as somebody else's process would.
RELOAD = """
import json, sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, probe = sys.argv[1:3]
model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
AutoTokenizer.from_pretrained(folder)
with torch.no_grad():
    logits = model.eval()(**load_file(probe)).logits
save_file({"logits": logits.contiguous()}, probe + ".out")
print("KEYS " + json.dumps({k: sorted(map(str, info[k])) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")}))
"""


def check_reload(
    folder: Path, inputs: dict[str, Tensor], expected_logits: Tensor, scratch: Path, tolerance: float = 1e-4
) -> float:
    """Load ``folder`` in a fresh process, compare logits and keys.

    Args:
        inputs: arguments of the stock model's forward.
        expected_logits: ours, fp32.
        scratch: folder for the exchange of tensors.
        tolerance: largest absolute difference allowed.

    Returns:
        The largest absolute difference.

    Raises:
        UserError: the process failed, keys are missing or unexpected, or the logits differ.
    """
    probe = scratch / "probe.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, probe)
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(folder), str(probe)], capture_output=True, text=True, check=False
    )
    line = next((row for row in done.stdout.splitlines() if row.startswith("KEYS ")), None)
    if done.returncode != 0 or line is None:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the exported checkpoint does not load with stock transformers: {reason}")
    wrong = {kind: names for kind, names in json.loads(line[5:]).items() if names}
    if wrong:
        raise UserError(f"the exported checkpoint loads with other parameters: {wrong}")
    difference = float((load_file(f"{probe}.out")["logits"] - expected_logits).abs().max())
    if not difference <= tolerance:
        raise UserError(
            f"the exported checkpoint gives other logits: difference {difference:.2e}, allowed {tolerance:.0e}"
        )
    return difference


def probe_ids(vocabulary: int, length: int = 24) -> Tensor:
    """Token ids ``[1, length]`` spread over the vocabulary, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (1, length), generator=generator)
