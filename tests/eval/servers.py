"""A real HTTP server in a thread that answers chat completions by a rule, or misbehaves as it is told."""

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from PIL import Image

MODEL = "tiny"


@dataclass(frozen=True)
class Reply:
    """What goes back, byte for byte.

    Attributes:
        wait: seconds before the first byte.
        each: seconds before every further byte of the body.
        cut: the connection closes after so many bytes of the body, whatever its stated length.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    wait: float = 0.0
    each: float = 0.0
    cut: int | None = None


def answer(text: Any, model: str = MODEL) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "model": model, "choices": [choice]}).encode())


def error(status: int, message: str, **headers: str) -> Reply:
    return Reply(json.dumps({"error": {"message": message}}).encode(), status, headers)


def text_of(body: dict[str, Any]) -> str:
    """The text of the last turn."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def images_of(body: dict[str, Any]) -> list[Image.Image]:
    parts = [
        part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]


class Server:
    """What it was asked, and at which address.

    Attributes:
        asked: bodies of chat completions that reached it, the probe's left out.
        headers: of all requests.
        most: the largest number of requests that were in it at a time.
    """

    def __init__(self, rule: Callable[[dict[str, Any]], str | Reply], probe: Reply, listing: Reply) -> None:
        self.rule, self.probe, self.listing = rule, probe, listing
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.now = self.most = 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    @property
    def address(self) -> str:
        return f"openai:{MODEL}@{self.url}"

    def texts(self) -> list[str]:
        return [text_of(body) for body in self.asked]

    def reply(self, method: str, path: str, body: Any) -> Reply:
        if (method, path) == ("GET", "/v1/models"):
            return self.listing
        if (method, path) != ("POST", "/v1/chat/completions"):
            return error(404, "no such path")
        if text_of(body) == "Say yes.":
            return self.probe
        with self.lock:
            self.asked.append(body)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            said = self.rule(body)
        finally:
            with self.lock:
                self.now -= 1
        return answer(said) if isinstance(said, str) else said


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._go(None)

        def do_POST(self) -> None:
            self._go(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _go(self, body: Any) -> None:
            with server.lock:
                server.headers.append(dict(self.headers))
                server.paths.append(self.path)
            reply = server.reply(self.command, self.path, body)
            server.over.wait(reply.wait)
            try:
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                body_bytes = reply.body[: reply.cut]
                if not reply.each:
                    self.wfile.write(body_bytes)
                for place in range(len(body_bytes) if reply.each else 0):
                    if server.over.wait(reply.each):
                        break
                    self.wfile.write(body_bytes[place : place + 1])
            except OSError:
                pass  # the client went away
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(
    rule: Callable[[dict[str, Any]], str | Reply] = lambda body: "red",
    probe: Reply | None = None,
    listing: Reply | None = None,
) -> Iterator[Server]:
    """A server that runs until the block ends."""
    server = Server(rule, probe or answer("yes"), listing or error(404, "no listing"))
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
