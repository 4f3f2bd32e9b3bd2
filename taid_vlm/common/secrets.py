"""Secrets that stand where they would be written down: passwords in addresses, access tokens."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# Tokens of the hub, of OpenAI and its like, of W&B (in its key=value form), of GitHub; long enough to be no name.
TOKEN = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})\b")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
KEYS = re.compile(
    r"^(api[-_]?key|key|token|access[-_]?token|auth|password|secret|sig|signature|x-amz-signature)$", re.I
)


def secret_in(text: str) -> str:
    """What secret a text holds, in words that do not repeat it; empty for none."""
    if TOKEN.search(text):
        return "an access token"
    for address in ADDRESS.findall(text):
        try:
            parts = urlsplit(address)
        except ValueError:
            continue
        if parts.password is not None or (parts.username is not None and parts.scheme in ("http", "https")):
            return f"a user name or password in the address of {parts.hostname}"
        if any(KEYS.match(key) for key, _ in parse_qsl(parts.query)):
            return f"a key in the address of {parts.hostname}"
    return ""


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
