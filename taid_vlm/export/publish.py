"""Uploading an export to the model hub: into which repository, and in one message why it is not there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import taid_vlm
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.markdown import one_line
from taid_vlm.common.secrets import without_secrets
from taid_vlm.common.time_limit import within

ANSWER_S = 60.0  # seconds for a short question; the hub's client would wait for ever
# transformers prefers one file over shards: what an earlier upload left under these names would be loaded in place of this one.
WEIGHTS = tuple(
    f"{folder}{name}"
    for folder in ("", "language_model/")
    for name in ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
)
ADVICE = {
    401: "the access token is not accepted; log in again with 'hf auth login' (a token in HF_TOKEN comes before that one)",
    403: "the access token may not write there; take a token with the right to write, and an owner for whom you may",
    404: "there is no such owner or repository, or the access token may not see it",
    429: "the hub wants fewer requests; wait some minutes",
}
LOADS = re.compile(r'from_pretrained\("([^"]+)"')  # the first line of a card that does, whatever it loads
T = TypeVar("T")


def full_name(repository: str) -> str:
    """``repository`` with its owner, who is the user that is logged in where none is named; the hub is asked who that is.

    Raises:
        UserError: that is no name of a repository, nobody is logged in, or the hub is not reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(
            f"no repository can be named {repository!r}: {error} Expected OWNER/NAME, such as me/my-student"
        ) from error
    try:
        user = _answer(HfApi().whoami)["name"]
    except Exception as error:  # the hub's client raises those of its HTTP library, too
        raise UserError(f"cannot upload to {repository}: {_reason(error)}. Or export without an upload") from error
    return repository if "/" in repository else f"{user}/{repository}"


def publish(folder: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload an export; its card is told the repository's name. Returns a line for people.

    The repository is created where it is missing. Weights of an earlier upload that this export does not have are deleted there.

    Args:
        repository: with its owner; see :func:`full_name`.
        private: create it for its owner alone.
        message: of the commit.

    Raises:
        UserError: it is not, or not wholly, uploaded; the folder is complete, and the same call goes on.
    """
    from huggingface_hub import HfApi

    _address(folder / "README.md", repository)
    stays = f"The export is complete in {folder}, and the same command uploads it"
    try:
        api = HfApi()
        url = _answer(lambda: api.create_repo(repository, private=private or None, exist_ok=True))
        # Of a repository that exists, the wish to be private is ignored.
        if private and not _answer(lambda: api.repo_info(repository)).private:
            raise UserError(
                f"nothing was uploaded to {repository}: it exists and is public, and it was to be private. Make it private in its "
                f"settings, choose another name, or do not ask for private. {stays}"
            )
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message or f"Upload a student exported by taid-vlm {taid_vlm.__version__}",
            delete_patterns=list(WEIGHTS),
        )
    except UserError:
        raise
    except Exception as error:  # the hub's client raises those of its HTTP library, too
        raise UserError(f"not uploaded to {repository}: {_reason(error)}. {stays}") from error
    return f"uploaded to {url}{' (private)' if private else ''}, commit {done.oid}"


def _address(card: Path, repository: str) -> None:
    """Put the repository's name where the card of an export says how it is loaded and evaluated, in place of an earlier upload's."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if loads := LOADS.search(text):
        named = text.replace(f'"{loads[1]}"', f'"{repository}"')
        named = named.replace(f"taid-vlm eval {loads[1]} ", f"taid-vlm eval {repository} ")
        if named != text:
            write_atomic(card, named)


def _answer(call: Callable[[], T]) -> T:
    """What the hub answers, or how its client fails, if it does within ``ANSWER_S`` seconds."""
    return within(ANSWER_S, call)


def _reason(error: BaseException) -> str:
    """What went wrong and what to do, on one line, without access tokens."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it where there is a network"
    if isinstance(error, LocalTokenNotFoundError):
        return "nobody is logged in; 'hf auth login' does it, or an access token in HF_TOKEN"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be read ({error.strerror})"
    answered = _with_response(error)
    if answered is None:
        return f"{constants.ENDPOINT} is not reached, or breaks off ({_said(str(error) or type(error).__name__)})"
    status = answered.response.status_code
    # An error that stands above the answer says what was tried.
    said = _said(
        ": ".join(filter(None, ("" if answered is error else str(error).splitlines()[0], answered.server_message)))
    )
    advice = ADVICE.get(status, "the hub has a fault; try again later" if status >= 500 else "")
    return f"the hub says {status}" + (f" ({said})" if said else "") + (f": {advice}" if advice else "")


def _said(text: str) -> str:
    return one_line(without_secrets(text))[:300].rstrip(".")


def _with_response(error: BaseException | None) -> Any:
    """The error, or the one that led to it, that holds an answer of the hub."""
    while error is not None and getattr(error, "response", None) is None:
        error = error.__cause__
    return error
