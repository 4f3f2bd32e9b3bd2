"""Models behind a server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, `transformers serve`, a hosted one."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from taid_vlm.common.errors import UserError
from taid_vlm.common.json_http import Endpoint, Retries, ServerError, read_key
from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.openai_messages import as_data_url, messages_of
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.said import Said, as_said

KEY_VARIABLE, TIMEOUT = "OPENAI_API_KEY", 120.0
SEED = 0
MOST_STOPS = 4  # that the format allows in a request
_ADDRESS = re.compile(r"(?P<model>.+?)@(?P<url>https?://.+)", re.S)
_STATED = ("owned_by", "root", "max_model_len")  # what servers say of a model that does not change while it is served


@dataclass(frozen=True)
class Address:
    """A model and the base URL of its server, which ends before ``/chat/completions``."""

    model: str
    url: str

    @property
    def short(self) -> str:
        """MODEL@HOST, for tables and folders."""
        return f"{self.model}@{urlsplit(self.url).netloc}"


def parse_address(text: str) -> Address:
    """``MODEL@URL``, such as ``Qwen/Qwen2-VL-2B-Instruct@http://localhost:8000/v1``.

    Raises:
        UserError: no such form, or a URL with a password or a query, neither of which is repeated in the message.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        raise UserError(
            "a served model is named MODEL@URL, for example my-model@http://localhost:8000/v1; found no '@http'"
        )
    parts = urlsplit(found["url"])
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"the URL of {found['model']!r} holds a user, a query or a fragment; give it plain, as results state it, and put "
            f"the key into the environment variable {KEY_VARIABLE}"
        )
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:  # a port that is no number
        host = None
    if not host or re.search(r"\s", found["url"]):
        raise UserError(f"{found['url']!r} is no URL; expected something like http://localhost:8000/v1")
    return Address(found["model"], found["url"].rstrip("/"))


class ServedModel:
    """Asks one request per question, a batch of them at a time in flight. From :func:`open_served`.

    Args:
        stated: what the server says of the model.
    """

    def __init__(self, address: Address, endpoint: Endpoint, stated: dict[str, str | int]) -> None:
        self.name = address.short
        self._address, self._endpoint, self._stated = address, endpoint, stated

    def describe(self) -> dict[str, str | int]:
        """Of a served model, its weights are what the server says; nobody here can look at them."""
        return {
            "adapter": "openai",
            "name": self.name,
            "model": self._address.model,
            "url": self._address.url,
            "sampling": f"temperature 0, seed {SEED}",
            **self._stated,
        }

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[Said]:
        """One answer, or the reason why there is none, for each request."""
        said = dict(self.answers_as_they_come(requests, max_new_tokens))
        return [said[place] for place in range(len(requests))]

    def answers_as_they_come(self, requests: Sequence[Request], max_new_tokens: int) -> Iterator[tuple[int, Said]]:
        """See :meth:`Streaming.answers_as_they_come`."""
        self._endpoint.start()
        with ThreadPoolExecutor(max_workers=max(len(requests), 1), thread_name_prefix="openai") as threads:
            places = {threads.submit(self._answer, one, max_new_tokens): place for place, one in enumerate(requests)}
            try:
                for future in as_completed(places):
                    yield places[future], future.result()
            except BaseException:  # stopped by hand, say: let nothing wait for the server
                threads.shutdown(wait=False, cancel_futures=True)
                self._endpoint.stop()
                raise

    def _answer(self, request: Request, max_new_tokens: int) -> Said:
        if request.answer_start:
            raise CannotAskError(
                f"the protocol begins each answer with {request.answer_start!r}, and a served model cannot be told so; "
                f"evaluate without this protocol"
            )
        try:
            reply = self._endpoint.ask("/chat/completions", _body(self._address.model, request, max_new_tokens))
            return as_said(request, self._endpoint.hide(_text_of(reply, self._endpoint)))
        except ServerError as error:
            return AnswerFault(str(error))


def _body(model: str, request: Request, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": messages_of(request, as_data_url),
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": SEED,
        "stream": False,
        # Left out where there are none: some servers refuse an empty list. What is beyond the limit is cut from the reply.
        **({"stop": stops} if (stops := [stop for stop in request.stops if stop][:MOST_STOPS]) else {}),
    }


def _text_of(reply: dict[str, Any], endpoint: Endpoint) -> str:
    """The answer in a reply. ``null`` is an empty one: its tokens ran out in a thought, or a filter took it."""
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict) or "content" not in message:
        raise ServerError(f"junk: no choices[0].message.content in {endpoint.quote(str(reply))}", status=200)
    content = message["content"]
    if content is None:
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    if not isinstance(content, str):
        raise ServerError(f"junk: content is {type(content).__name__}, expected text", status=200)
    return content


def open_served(
    text: str, *, timeout: float = TIMEOUT, key_variable: str = KEY_VARIABLE, retries: Retries = Retries()
) -> ServedModel:
    """Ask the server one short question, so that a wrong address, model or key is told before a run, and see what it says.

    Args:
        text: see :func:`parse_address`.
        timeout: seconds for one request.
        key_variable: the environment variable that holds the key; it may be unset.

    Raises:
        UserError: a malformed address, no answer, or a refusal.
    """
    address = parse_address(text)
    endpoint = Endpoint(address.url, read_key(key_variable), timeout, retries)
    try:
        reply = endpoint.ask("/chat/completions", _body(address.model, Request("Say yes."), 1))
        if not isinstance(reply.get("choices"), list):
            raise ServerError(f"junk: no choices in {endpoint.quote(str(reply))}", status=200)
    except ServerError as error:
        raise UserError(
            f"{address.url} does not serve {address.model!r}: {error}{_advice(error, key_variable)}"
        ) from None
    stated: dict[str, str | int] = {}
    if isinstance(answered := reply.get("model"), str):
        stated["answered_as"] = endpoint.hide(answered)
    return ServedModel(address, endpoint, stated | _listed(endpoint, address.model))


def _advice(error: ServerError, key_variable: str) -> str:
    if error.status in (401, 403):
        return f"; the key is read from the environment variable {key_variable}"
    if error.status in (404, 405):
        return "; the URL ends before /chat/completions, mostly in /v1, and MODEL is the name under which the server knows it"
    return "" if error.status else "; start the server, or correct the URL"


def _listed(endpoint: Endpoint, model: str) -> dict[str, str | int]:
    """What ``GET /models`` says of the model; a server need not have it."""
    try:
        listing = endpoint.ask("/models", attempts=1).get("data")
    except ServerError:
        return {}
    for entry in listing if isinstance(listing, list) else []:
        if isinstance(entry, dict) and entry.get("id") == model:
            found = {key: entry[key] for key in _STATED if isinstance(entry.get(key), str | int)}
            return {key: endpoint.hide(value) if isinstance(value, str) else value for key, value in found.items()}
    return {}
