"""One request over HTTP that ends at a deadline, or when another thread ends it, and goes to its address and no other."""

import http.client
import socket
import threading
import urllib.request
from contextlib import suppress
from functools import partial
from typing import Any

CONNECT_SECONDS = 20.0  # for a connection alone, encryption included


class Watch:
    """Ends a request at its deadline, however slowly bytes drip in: it shuts the socket down under it.

    Attributes:
        late: whether the deadline came.
    """

    def __init__(self, seconds: float) -> None:
        self.late = self._ended = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._too_late)
        self._timer.daemon = True

    def hold(self, opened: socket.socket) -> None:
        """Watch over this socket."""
        self._socket = opened
        if self._ended:
            self.shut()

    def _too_late(self) -> None:
        self.late = True
        self.shut()

    def shut(self) -> None:
        """End the request now."""
        self._ended = True
        if self._socket is not None:
            with suppress(OSError, ValueError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "Watch":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _watched(kind: type[http.client.HTTPConnection], watch: Watch, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connect = connection.connect

    def connect_and_hold() -> None:
        whole, connection.timeout = connection.timeout, min(connection.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
        connect()
        connection.sock.settimeout(whole)
        watch.hold(connection.sock)

    connection.connect = connect_and_hold  # type: ignore[method-assign]
    return connection


class _Watched(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_watched, http.client.HTTPConnection, self._watch), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_watched, http.client.HTTPSConnection, self._watch), request)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """urllib would carry the key along to wherever a redirect points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def send(request: urllib.request.Request, watch: Watch, timeout: float, most_bytes: int) -> bytes:
    """The reply to a request, of which at most ``most_bytes`` + 1 are read.

    Args:
        timeout: seconds that the server may be silent; the deadline of all is the watch's.

    Raises:
        OSError, http.client.HTTPException, ValueError: no whole reply; the last is a TLS socket that was shut under the reader.
        urllib.error.HTTPError: another status than 200, a redirect among them.
    """
    opener = urllib.request.build_opener(_Watched(watch), _StayHere())
    with opener.open(request, timeout=timeout) as reply:
        raw: bytes = reply.read(most_bytes + 1)
        # A read of so many bytes does not tell that the stated length was not reached.
        if reply.length and len(raw) <= most_bytes:
            raise http.client.IncompleteRead(raw, reply.length)
    return raw
