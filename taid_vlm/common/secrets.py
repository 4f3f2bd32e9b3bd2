"""Secrets that stand where they would be written down or told: passwords in addresses, access tokens, what the environment keeps."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Tokens of the hub, of OpenAI and its like, of GitHub and GitLab, NVIDIA, Groq, Google, AWS and Slack; long enough to be no name. Names of
# Slovak data have "sk-" in them, too, but no such run of letters and digits behind it.
TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[\w-]*[A-Za-z0-9]{16}[\w-]*|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|nvapi-[\w-]{20,}"
    r"|gsk_[A-Za-z0-9]{20,}|AIza[\w-]{35}|AKIA[A-Z0-9]{16}|xox[abpros]-[\w-]{20,})"
)
BEARER = re.compile(
    r"\b(Bearer\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}", re.I
)  # without a digit it is a word behind "bearer"
# A user alone is a secret where he may be a token; "git@" of an ssh address is none. As a path an address loses a slash.
USER = re.compile(r"\b((?:https?|s3|gs|ftp)://?|[A-Za-z][A-Za-z0-9+.-]*://?(?=[^\s\"'<>/?#@]*:))[^\s\"'<>/?#]*@", re.I)
QUERY = re.compile(
    r"([?&;](?:(?:api|access)?[-_]?(?:key|token)|auth|password|passwd|(?:client[-_])?secret|sig|signature|"
    r"x-amz-(?:signature|security-token|credential))=)[^\s\"'<>&;#]+",
    re.I,
)
# Names of environment variables whose values are secrets, and how long such a value is at least: below that it is a word.
VARIABLE = re.compile(r"(TOKEN|(API|ACCESS|SECRET|PRIVATE|AUTH)_?KEY|SECRET|PASSWORD|PASSWD)$", re.I)
SHORTEST = 8
SPECIAL = re.compile(r"<[^<>]+>|\[[A-Za-z_]+\]")  # as EOS_TOKEN=<|im_end|>: a token of a tokenizer
HIDDEN = "[hidden]"


def secret_in(text: str) -> str:
    """What secret a text holds, in words that do not repeat it; empty for none."""
    for name, value in _kept_by_the_environment():
        if value in text:
            return f"the value of the environment variable {name}"
    if TOKEN.search(text) or BEARER.search(text):
        return "an access token"
    if USER.search(text):
        return "a user name or password in an address"
    return "a key in an address" if QUERY.search(text) else ""


def secrets_of(content: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """``(dotted key, what secret)`` for every text below ``content`` that holds one."""
    if isinstance(content, str) and (found := secret_in(content)):
        yield above, found
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from secrets_of(value, f"{above}.{key}" if above else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from secrets_of(value, f"{above}.{index}")


def without_secrets(text: str) -> str:
    """The text with each secret that it holds hidden; the rest stays, so that a message can still be understood."""
    for _, value in _kept_by_the_environment():
        text = text.replace(value, HIDDEN)
    text = USER.sub(rf"\1{HIDDEN}@", text)
    text = QUERY.sub(rf"\1{HIDDEN}", text)
    return BEARER.sub(rf"\1{HIDDEN}", TOKEN.sub(HIDDEN, text))


def hidden_in(content: Any) -> Any:
    """JSON values with the secrets of all texts below them hidden."""
    if isinstance(content, str):
        return without_secrets(content)
    if isinstance(content, Mapping):
        return {key: hidden_in(value) for key, value in content.items()}
    return [hidden_in(value) for value in content] if isinstance(content, (list, tuple)) else content


def _kept_by_the_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and VARIABLE.search(name) and not SPECIAL.fullmatch(value):
            yield name, value
