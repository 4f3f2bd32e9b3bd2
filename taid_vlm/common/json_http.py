"""JSON over HTTP to one server: deadlines, bounded retries, and a key that never leaves the headers."""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.http_watch import Watch, send

MOST_BYTES = 16 << 20  # of a reply; an answer is some kilobytes
_AGAIN = frozenset({408, 425, 429})  # and all from 500 on
_SHORTEST_SECRET = 8  # characters; below that a key is a word such as "EMPTY", which answers may hold


class ServerError(Exception):
    """Why the server gave nothing useful.

    Attributes:
        status: of HTTP; 0 where there was no reply.
        again: whether the same request may fare better later.
        pause: seconds that the server asks to wait; None where it does not say.
        silent: whether no whole reply came in time.
        target: where a redirect points; "" for all else.
        attempts: how many requests were made.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int = 0,
        again: bool = False,
        pause: float | None = None,
        silent: bool = False,
        target: str = "",
    ) -> None:
        super().__init__(text)
        self.status, self.again, self.pause, self.silent, self.target = status, again, pause, silent, target
        self.attempts = 1


@dataclass(frozen=True)
class Retries:
    """How often a request is made.

    Attributes:
        attempts: in all.
        silent: of those, how many that have no reply in time: each costs the whole time-out.
        pause: seconds before the second attempt; each later one waits twice as long, or as long as the server asks.
        longest: seconds of any pause.
    """

    attempts: int = 4
    silent: int = 4
    pause: float = 1.0
    longest: float = 60.0


def read_key(variable: str) -> str | None:
    """The key from the environment; None where the variable is unset or empty.

    Raises:
        UserError: it holds what no header can carry; the message does not repeat it.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the environment variable {variable} holds spaces or characters that a key cannot have")
    return key


class Endpoint:
    """One server. Used from several threads at once.

    Args:
        url: what every path is put behind.
        key: sent as a bearer token; None sends none.
        timeout: seconds for one request, from the first byte sent to the last one received.
        most_bytes: of a reply.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        retries: Retries = Retries(),
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self._key, self._retries, self._most_bytes = key, retries, most_bytes
        self._away = False  # the last request had no reply at any attempt
        self._stopped = threading.Event()
        self._watches: set[Watch] = set()

    def ask(self, path: str, body: Any = None, attempts: int | None = None) -> dict[str, Any]:
        """The JSON object that the server replies with, to a POST of ``body``, or to a GET without one.

        No reply, 408, 425, 429 and 5xx are tried again, up to ``attempts`` in all, with pauses that grow or that the server
        names. While a server is away, one attempt each must do: a thousand requests shall not wait for a dead server.

        Args:
            attempts: as the server's retries say, when left out.

        Raises:
            ServerError: no reply in time, none at all, a status that is not 200, or a reply that is not a JSON object.
        """
        attempts = 1 if self._away else attempts or self._retries.attempts
        made = silent = 0
        while True:
            made += 1
            try:
                reply = self._once(path, body)
            except ServerError as error:
                error.attempts = made
                silent += error.silent
                over = made == attempts or silent == self._retries.silent
                if over or not error.again or self._stopped.is_set():
                    self._away = error.again and not error.status
                    raise
                pause = error.pause if error.pause is not None else self._retries.pause * 2 ** (made - 1)
                if self._stopped.wait(min(pause, self._retries.longest)):
                    raise
            else:
                self._away = False
                return reply

    def stop(self) -> None:
        """End all requests in flight now; later ones are made as usual once :meth:`start` is called."""
        self._stopped.set()
        for watch in list(self._watches):
            watch.shut()

    def start(self) -> None:
        self._stopped.clear()

    def hide(self, text: str) -> str:
        """``text`` without the key: servers quote it in errors, and an echo would put it into an answer."""
        if self._key is None or len(self._key) < _SHORTEST_SECRET:
            return text
        return text.replace(self._key, "[key]")

    def _once(self, path: str, body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "taid-vlm"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with Watch(self.timeout) as watch:
            self._watches.add(watch)
            if self._stopped.is_set():  # looked at behind the line above: stop() sees this watch, or this sees stop()
                watch.shut()
            try:
                raw = send(request, watch, self.timeout, self._most_bytes)
            except urllib.error.HTTPError as error:
                raise self._refused(error) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._no_reply(error, watch.late) from None
            finally:
                self._watches.discard(watch)
        return self._parse(raw)

    def _no_reply(self, error: Exception, late: bool) -> ServerError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if late or isinstance(reason, TimeoutError):
            return ServerError(f"timed out: no whole reply within {self.timeout:g} s", again=True, silent=True)
        if isinstance(reason, ConnectionRefusedError):
            return ServerError("connection refused: nothing listens there", again=True)
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else "the connection ended early"
        return ServerError(f"no whole reply: {text} ({type(reason).__name__})", again=True)

    def _refused(self, error: urllib.error.HTTPError) -> ServerError:
        with error:
            try:
                said = error.read(1 << 16)
            except (OSError, http.client.HTTPException, ValueError):
                said = b""
        status, target = error.code, ""
        if 300 <= status < 400:
            target = self.hide(error.headers.get("Location", ""))
            text = f"HTTP {status}: a redirect; these are not followed, give the final URL"
        else:
            said_or_reason = self.hide(said.decode(errors="replace")) or self.hide(str(error.reason))
            text = f"HTTP {status}: {_message(said_or_reason) or 'no reason given'}"
        again = status in _AGAIN or status >= 500
        pause = _retry_after(error.headers.get("Retry-After"))
        return ServerError(text, status=status, again=again, pause=pause, target=target)

    def _parse(self, raw: bytes) -> dict[str, Any]:
        if len(raw) > self._most_bytes:
            raise ServerError(f"junk: a reply of more than {self._most_bytes >> 20} MiB", status=200)
        try:
            reply = json.loads(raw)
        except (ValueError, RecursionError):
            raise ServerError(f"junk: not JSON but {self.quote(raw)}", status=200) from None
        if not isinstance(reply, dict):
            raise ServerError(f"junk: not a JSON object but {self.quote(raw)}", status=200)
        return reply

    def quote(self, raw: bytes | str) -> str:
        """The beginning of what the server said, in one line and without the key, for a message."""
        text = raw[:4096].decode(errors="replace") if isinstance(raw, bytes) else raw[:4096]
        text = " ".join(self.hide(text).split())
        return repr(text[:120]) + (" ..." if len(text) > 120 else "") if text else "nothing"


def _message(said: str) -> str:
    """What an error says: the ``message`` that OpenAI's format has, else the beginning of the text."""
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        inner = found.get("error", found)
        inner = inner.get("message", inner.get("detail")) if isinstance(inner, dict) else inner
        if isinstance(inner, str):
            return " ".join(inner.split())[:300]
    return " ".join(said.split())[:300]


def _retry_after(value: str | None) -> float | None:
    """Seconds; None when the header is absent or says nothing that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds == seconds else None
