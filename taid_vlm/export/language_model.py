"""A plain language model as a stock transformers checkpoint."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder
from taid_vlm.export.gate import check_reload, probe_ids
from taid_vlm.models.loaded import LoadedStudent


def export_language_model(loaded: LoadedStudent, target: Path) -> float:
    """Write config, safetensors, tokenizer and chat template, and prove that they load.

    Args:
        loaded: a student without vision parts, or one whose language model alone is wanted.
        target: folder to write; nothing is there when the proof fails.

    Returns:
        Largest absolute difference between our logits and those of the reloaded checkpoint.

    Raises:
        UserError: the target exists, or the reloaded checkpoint differs.
    """
    if target.exists():
        raise UserError(f"{target} exists; choose another folder")
    model: Any = loaded.student.language_model
    tokenizer = loaded.processor.tokenizer
    ids = probe_ids(len(tokenizer))
    with torch.no_grad():
        expected = model(input_ids=ids).logits.float()
    with new_folder(target) as folder:
        model.save_pretrained(folder)
        tokenizer.chat_template = loaded.processor.template
        tokenizer.save_pretrained(folder)
        with tempfile.TemporaryDirectory() as scratch:
            return check_reload(folder, {"input_ids": ids}, expected, Path(scratch))
