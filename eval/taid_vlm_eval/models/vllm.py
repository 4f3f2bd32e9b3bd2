"""Checkpoints run by vLLM inside this process: its continuous batching and paged memory, no server."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any

from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.common.remote_code import trusted
from taid_vlm_eval.models.identity import folder_fingerprint
from taid_vlm_eval.models.openai_messages import Part, messages_of
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.said import as_said

SEED = 0


class VllmModel:
    """Asks ``vllm.LLM.chat`` a batch at a time. From :func:`open_vllm`.

    Args:
        engine: a ``vllm.LLM``.
        sampling: the class ``vllm.SamplingParams``.
        stated: what identifies the checkpoint and how it is run.
    """

    def __init__(self, engine: Any, sampling: Any, name: str, stated: dict[str, str | int]) -> None:
        self.name = name
        self._engine, self._sampling, self._stated = engine, sampling, stated

    def describe(self) -> dict[str, str | int]:
        return {"adapter": "vllm", "name": self.name, "sampling": f"temperature 0, seed {SEED}", **self._stated}

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        answers = [""] * len(requests)
        # Whether the model goes on from a beginning is said of all conversations of a call.
        for started in (False, True):
            rows = [row for row, request in enumerate(requests) if bool(request.answer_start) == started]
            if not rows:
                continue
            outputs = self._engine.chat(
                [_conversation(requests[row]) for row in rows],
                [
                    self._sampling(
                        temperature=0.0,
                        max_tokens=max_new_tokens,
                        seed=SEED,
                        stop=[stop for stop in requests[row].stops if stop] or None,
                    )
                    for row in rows
                ],
                use_tqdm=False,
                add_generation_prompt=not started,
                continue_final_message=started,
            )
            for row, output in zip(rows, outputs, strict=True):
                answers[row] = as_said(requests[row], output.outputs[0].text)
        return answers


def _conversation(request: Request) -> list[dict[str, Any]]:
    messages = messages_of(request, _as_image)
    return [*messages, {"role": "assistant", "content": request.answer_start}] if request.answer_start else messages


def _as_image(image: Image.Image) -> Part:
    return {"type": "image_pil", "image_pil": image}


def open_vllm(name: str, dtype: str | None = None, trust_remote_code: bool = False) -> VllmModel:
    """Load a checkpoint folder or hub id into vLLM, on the devices that it takes by itself.

    Raises:
        UserError: vLLM is not installed, or it does not load the checkpoint; the message carries the reason.
    """
    try:
        from vllm import LLM, SamplingParams  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UserError(
            f"vLLM does not import ({error}); install it with 'pip install vllm' on a machine that it supports, or leave "
            f"the adapter out to run {name} with transformers"
        ) from error
    folder = Path(name).expanduser()
    trusted(str(folder) if folder.is_dir() else name, None, trust_remote_code)
    try:
        engine = LLM(
            model=str(folder) if folder.is_dir() else name,
            dtype=dtype or "auto",
            trust_remote_code=trust_remote_code,
            seed=SEED,
        )
    except (
        Exception
    ) as error:  # an engine that does not start raises many types: ValueError, RuntimeError, OSError, ...
        reason = shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
        raise UserError(f"vLLM does not load {name}: {reason}") from error
    stated: dict[str, str | int] = {
        "dtype": dtype or "auto",
        "vllm": _version(),
        "identity": folder_fingerprint(folder)[:16] if folder.is_dir() else _commit(name, trust_remote_code),
    }
    return VllmModel(engine, SamplingParams, folder.resolve().name if folder.is_dir() else name, stated)


def _commit(name: str, trust_remote_code: bool) -> str:
    """The commit of the hub's snapshot that vLLM has just loaded."""
    from transformers import AutoConfig

    return str(AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)._commit_hash)


def _version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return "not installed as a package"
