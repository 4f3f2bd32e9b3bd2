"""From what data sets call a conversation to messages of known roles with clean text."""

from collections.abc import Sequence
from typing import Any

from taid_vlm.common.errors import did_you_mean
from taid_vlm.data.record import BadSampleError
from taid_vlm.data.sources.parts import IMAGE, Message, part_of
from taid_vlm.data.sources.rows import names, shown

ROLES = ("system", "user", "assistant")
# What LLaVA's files, and those made after them, call the two.
OTHER_NAMES = {"human": "user", "gpt": "assistant"}
# Roles of tool calling, by the names that OpenAI, Llama and ShareGPT have for them.
TOOLS = (
    "tool",
    "function",
    "ipython",
    "observation",
    "function_call",
    "function_response",
    "tool_call",
    "tool_response",
)


def messages_of(turns: Any, place: str) -> list[Message]:
    """Messages from ``{role, content}`` or LLaVA's ``{from, value}``, as a list or as a dict of lists.

    Raises:
        BadSampleError: not such a list, an unknown role, a system message that is not the first, text that is none.
    """
    if isinstance(turns, dict) and turns and all(isinstance(column, list) for column in turns.values()):
        turns = [dict(zip(turns, values, strict=False)) for values in zip(*turns.values(), strict=False)]
    if not isinstance(turns, list):
        raise BadSampleError(f"{place}: not a conversation: {shown(turns)}; expected a list of messages", "wrong type")
    messages = [_message(turn, place) for turn in turns]
    for index, message in enumerate(messages):
        if message["role"] == "system" and index:
            raise BadSampleError(
                f"{place}: message {index + 1} has the role system; only the first may have it", "wrong roles"
            )
    return messages


def pairs_of(turns: Any, place: str) -> list[Message]:
    """Messages from The Cauldron's ``{user, assistant}``.

    Raises:
        BadSampleError: not a list of these.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadSampleError(
            f"{place}: not a conversation: {shown(turns)}; expected a list of {{user, assistant}}", "wrong type"
        )
    messages: list[Message] = []
    for turn in turns:
        if "user" not in turn or "assistant" not in turn:
            raise BadSampleError(
                f"{place}: a turn has {', '.join(names(turn)) or 'nothing'}; expected user and assistant",
                "wrong roles",
            )
        messages += exchange(turn["user"], turn["assistant"], place)
    return messages


def exchange(question: Any, answer: Any, place: str) -> list[Message]:
    """A question and its answer.

    Raises:
        BadSampleError: what is given is not text.
    """
    user, assistant = clean_text(question, place), clean_text(answer, place)
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def clean_text(text: Any, place: str) -> str:
    """The text itself; none is an empty one, which is judged later.

    Raises:
        BadSampleError: not text, or text that no tokenizer takes or no file should hold.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadSampleError(f"{place}: {shown(text)} is not text", "wrong type")
    if "\0" in text:
        raise BadSampleError(f"{place}: the text has a NUL character: {shown(text)}", "broken text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadSampleError(f"{place}: the text is not Unicode ({error.reason})", "broken text") from error
    return text


def marked(messages: Sequence[Message], mark: str) -> list[Message]:
    """User messages with each ``mark`` made an image part in its place; a line break after a mark goes with it."""
    return [
        {**m, "content": _split(m["content"], mark)}
        if m["role"] == "user" and isinstance(m["content"], str) and mark in m["content"]
        else m
        for m in messages
    ]


def pictures_first(messages: Sequence[Message], count: int) -> list[Message]:
    """``count`` image parts before the text of the first user message."""
    out = list(messages)
    first = next((i for i, m in enumerate(out) if m["role"] == "user"), None)
    if count and first is not None:
        text = out[first]["content"]
        parts = [{"type": "text", "text": text}] if isinstance(text, str) and text else []
        out[first] = {**out[first], "content": [dict(IMAGE) for _ in range(count)] + parts}
    return out


def _split(text: str, mark: str) -> list[dict[str, str]]:
    first, *rest = text.split(mark)
    parts = [{"type": "text", "text": first}] if first.strip() else []
    for piece in rest:
        words = piece.removeprefix("\n")
        parts += [dict(IMAGE), *([{"type": "text", "text": words}] if words.strip() else [])]
    return parts


def _message(turn: Any, place: str) -> Message:
    expected = '{"role": ..., "content": ...} or {"from": ..., "value": ...}'
    if not isinstance(turn, dict):
        raise BadSampleError(f"{place}: a message is {shown(turn)}; expected {expected}", "wrong type")
    for role_key, content_key in (("role", "content"), ("from", "value")):
        if role_key in turn and content_key in turn:
            role = turn[role_key]
            break
    else:
        keys = ", ".join(names(turn)) or "nothing"
        raise BadSampleError(f"{place}: a message has {keys}; expected {expected}", "wrong roles")
    role = OTHER_NAMES.get(role, role) if isinstance(role, str) else role
    if role in TOOLS or turn.get("tool_calls"):
        raise BadSampleError(
            f"{place}: {f'a message has the role {role}' if role in TOOLS else 'a message calls a tool'}; calling tools cannot be "
            f"taught here: take such conversations out of the set, or set data.on_bad_sample: skip",
            "wrong roles",
        )
    if role not in ROLES:
        near = did_you_mean(role, ROLES) if isinstance(role, str) and len(role) < 40 else f"known: {', '.join(ROLES)}"
        raise BadSampleError(f"{place}: unknown role {shown(role)}: {near}", "wrong roles")
    return {"role": role, "content": _content(turn[content_key], role, place)}


def _content(content: Any, role: str, place: str) -> str | list[dict[str, Any]]:
    if not isinstance(content, list):
        return clean_text(content, place)
    parts = [part_of(part, place) for part in content]
    parts = [{**part, "text": clean_text(part["text"], place)} if part["type"] == "text" else part for part in parts]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    if role != "user":
        raise BadSampleError(f"{place}: the {role} has a picture; only the user shows pictures", "wrong roles")
    return parts
