"""Models under evaluation: one protocol, adapters by name, and :func:`open_model` that picks one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.common.registry import Registry
from taid_vlm_eval.models.protocol import Model, Request

__all__ = ["ADAPTERS", "Model", "OpenOptions", "Request", "open_model"]


@dataclass(frozen=True)
class OpenOptions:
    """How to load a model.

    Attributes:
        device: "cpu", "cuda", "cuda:1", ...; None takes the first accelerator, else the CPU.
        dtype: "float32", "bfloat16", "float16"; None keeps what the checkpoint is stored in.
        trust_remote_code: run code that comes with a checkpoint. Never without being asked.
        timeout: seconds that a server may take for one answer.
        key_variable: name of the environment variable that holds the key of a server.
        reuse_images: encode and read each image once for all questions about it. Without, the answers are the same but for rounding,
            and come slower.
    """

    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    timeout: float = 120.0
    key_variable: str = "OPENAI_API_KEY"
    reuse_images: bool = True


Adapter = Callable[[str, OpenOptions], Model]
ADAPTERS: Registry[Adapter] = Registry("model adapter")


@ADAPTERS.register("student")
def _open_student(path: str, options: OpenOptions) -> Model:
    from taid_vlm_eval.models.student import open_student

    return open_student(path, options.device, options.dtype, options.reuse_images, options.trust_remote_code)


@ADAPTERS.register("transformers")
def _open_transformers(name: str, options: OpenOptions) -> Model:
    from taid_vlm_eval.models.checkpoint import open_stock

    return open_stock(name, options.device, options.dtype, options.trust_remote_code, options.reuse_images)


@ADAPTERS.register("openai")
def _open_openai(address: str, options: OpenOptions) -> Model:
    from taid_vlm_eval.models.openai import open_served

    return open_served(address, timeout=options.timeout, key_variable=options.key_variable)


@ADAPTERS.register("vllm")
def _open_vllm(name: str, options: OpenOptions) -> Model:
    from taid_vlm_eval.models.vllm import open_vllm

    return open_vllm(name, options.dtype, options.trust_remote_code)


PREFIXES = ("openai", "vllm")  # these adapters are never guessed: they are named, as in "vllm:PATH"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def open_model(
    path_or_name: str | Path,
    adapter: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    timeout: float = 120.0,
    key_variable: str = "OPENAI_API_KEY",
    reuse_images: bool = True,
) -> Model:
    """Load a model to evaluate.

    A folder with ``student.json`` is a student of ours, one with ``config.json`` a transformers checkpoint, and a name
    that is no path here is taken for an id on the model hub. ``openai:MODEL@URL`` is asked at a server, ``vllm:PATH`` run by vLLM.

    Args:
        path_or_name: folder, hub id, one of the two forms above, or a place as recipes name it (``recipes:PATH``, ``asset:NAME/PATH``).
        adapter: exact name of an adapter, when the choice above is not wanted.
        device, dtype, trust_remote_code, timeout, key_variable, reuse_images: see :class:`OpenOptions`.

    Raises:
        UserError: nothing there, neither of the two files there, unknown adapter, or a checkpoint that does not load.
    """
    named, name = split_prefix(resolve(str(path_or_name)))
    if named and adapter and named != adapter:
        raise UserError(f"{named}: in front of the model and adapter {adapter!r} disagree; name one of them")
    chosen = ADAPTERS.get(named or adapter or _adapter_for(name))
    if timeout <= 0:
        raise UserError(f"timeout is {timeout}, expected more than 0 seconds")
    return chosen(name, OpenOptions(device, dtype, trust_remote_code, timeout, key_variable, reuse_images))


def split_prefix(path_or_name: str | Path) -> tuple[str, str]:
    """The adapter that stands in front of a name, "" where none does, and what is behind it."""
    named, colon, rest = str(path_or_name).partition(":")
    return (named, rest) if colon and named in PREFIXES else ("", str(path_or_name))


def require_model(path_or_name: str | Path) -> None:
    """Refuse what :func:`open_model` would not even try to load.

    Raises:
        UserError: see there.
    """
    named, name = split_prefix(resolve(str(path_or_name)))
    if not named:
        _adapter_for(name)


def _adapter_for(name: str) -> str:
    folder = Path(name).expanduser()
    if (folder / "student.json").is_file():
        return "student"
    if (folder / "config.json").is_file():
        return "transformers"
    if folder.is_dir():
        raise UserError(_what_is_in(folder))
    if folder.exists():
        raise UserError(f"{name} is a file; expected the folder of a model, or an id on the model hub")
    if not _HUB_ID.fullmatch(name):
        raise UserError(f"no folder at {name}, and this is no id on the model hub (NAME or OWNER/NAME)")
    return "transformers"


def _what_is_in(folder: Path) -> str:
    found = sorted(entry.name for entry in folder.iterdir())
    inner = [one for one in found if any((folder / one / mark).is_file() for mark in ("student.json", "config.json"))]
    listing = (", ".join(found[:8]) + (", ..." if len(found) > 8 else "")) if found else "nothing"
    hint = "; did you mean " + " or ".join(str(folder / one) for one in inner[:3]) + "?" if inner else ""
    return (
        f"{folder} is no model: found {listing}; expected student.json (a student) or config.json (transformers){hint}"
    )
