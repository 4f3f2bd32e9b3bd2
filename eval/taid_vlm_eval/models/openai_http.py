"""JSON over HTTP to one server: deadlines, bounded retries, and a key that never leaves the headers."""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

ATTEMPTS = 4
LONGEST_PAUSE = 60.0  # seconds
CONNECT_SECONDS = 20.0  # for a connection alone, encryption included
MOST_BYTES = 16 << 20  # of a reply; an answer is some kilobytes
_AGAIN = frozenset({408, 425, 429})  # and all from 500 on
_SHORTEST_SECRET = 8  # characters; below that a key is a word such as "EMPTY", which answers may hold


class ServerError(Exception):
    """Why the server gave nothing useful.

    Attributes:
        status: of HTTP; 0 where there was no reply.
        again: whether the same request may fare better later.
        pause: seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, text: str, *, status: int = 0, again: bool = False, pause: float | None = None) -> None:
        super().__init__(text)
        self.status, self.again, self.pause = status, again, pause


class _Watch:
    """Ends a request at its deadline, however slowly bytes drip in: it shuts the socket down under it."""

    def __init__(self, seconds: float) -> None:
        self.late = self._ended = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._too_late)
        self._timer.daemon = True

    def hold(self, opened: socket.socket) -> None:
        self._socket = opened
        if self._ended:
            self.shut()

    def _too_late(self) -> None:
        self.late = True
        self.shut()

    def shut(self) -> None:
        self._ended = True
        if self._socket is not None:
            with suppress(OSError, ValueError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "_Watch":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _watched(kind: type[http.client.HTTPConnection], watch: _Watch, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connect = connection.connect

    def connect_and_hold() -> None:
        whole, connection.timeout = connection.timeout, min(connection.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
        connect()
        connection.sock.settimeout(whole)
        watch.hold(connection.sock)

    connection.connect = connect_and_hold  # type: ignore[method-assign]
    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_watched, http.client.HTTPConnection, self._watch), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_watched, http.client.HTTPSConnection, self._watch), request)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """urllib would carry the key along to wherever a redirect points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Endpoint:
    """One server. Used from several threads at once.

    Args:
        url: what every path is put behind.
        key: sent as a bearer token; None sends none.
        timeout: seconds for one request, from the first byte sent to the last one received.
        pause: seconds before the second attempt; each later one waits twice as long.
    """

    def __init__(self, url: str, key: str | None, timeout: float, pause: float = 1.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self._key, self._pause = key, pause
        self._away = False  # the last request had no reply at any attempt
        self._stopped = threading.Event()
        self._watches: set[_Watch] = set()

    def ask(self, path: str, body: Any = None, attempts: int = ATTEMPTS) -> dict[str, Any]:
        """The JSON object that the server replies with, to a POST of ``body``, or to a GET without one.

        No reply, 408, 425, 429 and 5xx are tried again, up to ``attempts`` in all, with pauses that grow or that the server
        names. While a server is away, one attempt each must do: a thousand items shall not wait for a dead server.

        Raises:
            ServerError: no reply in time, none at all, a status that is not 200, or a reply that is not a JSON object.
        """
        attempts = 1 if self._away else attempts
        for attempt in range(1, attempts + 1):
            try:
                reply = self._once(path, body)
            except ServerError as error:
                if attempt == attempts or not error.again or self._stopped.is_set():
                    self._away = error.again and not error.status
                    raise
                pause = error.pause if error.pause is not None else self._pause * 2 ** (attempt - 1)
                if self._stopped.wait(min(pause, LONGEST_PAUSE)):
                    raise
            else:
                self._away = False
                return reply
        raise AssertionError("unreachable")

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
        with _Watch(self.timeout) as watch:
            self._watches.add(watch)
            if self._stopped.is_set():  # looked at behind the line above: stop() sees this watch, or this sees stop()
                watch.shut()
            opener = urllib.request.build_opener(_Http(watch), _Https(watch), _StayHere())
            try:
                with opener.open(request, timeout=self.timeout) as reply:
                    raw = reply.read(MOST_BYTES + 1)
                    # A read of so many bytes does not tell that the stated length was not reached.
                    if reply.length and len(raw) <= MOST_BYTES:
                        raise http.client.IncompleteRead(raw, reply.length)
            except urllib.error.HTTPError as error:
                raise self._refused(error) from None
            # ValueError: a TLS socket that was shut under the reader.
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._no_reply(error, watch.late) from None
            finally:
                self._watches.discard(watch)
        return self._parse(raw)

    def _no_reply(self, error: Exception, late: bool) -> ServerError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if late or isinstance(reason, TimeoutError):
            return ServerError(f"timed out: no whole reply within {self.timeout:g} s", again=True)
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
        status = error.code
        if 300 <= status < 400:
            text = f"HTTP {status}: a redirect; these are not followed, give the final URL"
        else:
            said_or_reason = self.hide(said.decode(errors="replace")) or self.hide(str(error.reason))
            text = f"HTTP {status}: {_message(said_or_reason) or 'no reason given'}"
        again = status in _AGAIN or status >= 500
        return ServerError(text, status=status, again=again, pause=_retry_after(error.headers.get("Retry-After")))

    def _parse(self, raw: bytes) -> dict[str, Any]:
        if len(raw) > MOST_BYTES:
            raise ServerError(f"junk: a reply of more than {MOST_BYTES >> 20} MiB", status=200)
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
