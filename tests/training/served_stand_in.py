"""A stand-in for a vLLM server: its completions protocol over a tiny model, in a thread, with faults on request."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Body = dict[str, Any]


class StandIn:
    """What the server does; the tests read and change it.

    Attributes:
        max_logprobs: as ``vllm serve --max-logprobs``.
        faults: taken one by one, each by one completion: a status, or a name in ``_fault``.
        change: what is done to each answer before it is sent.
        asked: the bodies of all completions that were answered. seen: how many came in, headers: of the last one.
    """

    def __init__(
        self, checkpoint: Path, name: str = "tiny", max_logprobs: int = 300, kind: Any = AutoModelForCausalLM
    ) -> None:
        self.model = kind.from_pretrained(checkpoint).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.names, self.max_logprobs = [name], max_logprobs
        self.faults: list[int | str] = []
        self.change: Callable[[Body], Any] = lambda answer: answer
        self.asked: list[Body] = []
        self.seen, self.headers, self.together, self.most_together = 0, {}, 0, 0  # type: ignore[var-annotated]
        self.lock = threading.Lock()
        self.words: dict[int, str] = {}
        self.url = ""

    def complete(self, body: Body) -> tuple[int, Body]:
        """Status and answer, as vLLM gives them."""
        ids, k = body["prompt"], body["prompt_logprobs"]
        if body["model"] not in self.names:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if body["max_tokens"] < 1:
            return 400, {"error": {"message": "max_tokens must be at least 1, got 0."}}
        if k > self.max_logprobs:
            said = f"Requested prompt logprobs of {k}, which is greater than max allowed: {self.max_logprobs}"
            return 400, {"error": {"message": said}}
        with self.lock, torch.no_grad():
            self.asked.append(body)
            log_p = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        entries: list[Any] = [None]
        for place in range(1, len(ids)):
            row = log_p[place - 1]
            order, values = row.argsort(descending=True).tolist(), row.tolist()
            ranks = {token: rank for rank, token in enumerate(order, 1)}
            known = {*order[:k], ids[place]}
            entries.append({str(token): self._told(token, values[token], ranks[token]) for token in sorted(known)})
        choice = {"index": 0, "text": "x", "prompt_logprobs": entries, "prompt_token_ids": ids}
        return 200, {"object": "text_completion", "choices": [choice]}

    def _told(self, token: int, value: float, rank: int) -> Body:
        if token not in self.words:
            self.words[token] = self.tokenizer.decode([token])
        return {"logprob": value, "rank": rank, "decoded_token": self.words[token]}


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            models = {"data": [{"id": name} for name in stand_in.names]}
            found = self.path == "/v1/models"
            self.send(200 if found else 404, json.dumps(models if found else {"detail": "Not Found"}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stand_in.lock:
                stand_in.seen += 1
                stand_in.headers = dict(self.headers)
                stand_in.together += 1
                stand_in.most_together = max(stand_in.most_together, stand_in.together)
                fault = stand_in.faults.pop(0) if stand_in.faults else None
            try:
                self.answer(body, fault)
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with stand_in.lock:
                    stand_in.together -= 1

        def answer(self, body: Body, fault: int | str | None) -> None:
            if isinstance(fault, int):
                self.send(fault, b'{"error": {"message": "on purpose"}}')
            elif fault == "hangs up":
                self.close_connection = True
            elif fault == "stops in the middle":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": ')
                self.close_connection = True
            elif fault == "is slow":
                time.sleep(1.0)
            elif fault == "is no JSON":
                self.send(200, b"<html>Welcome to nginx</html>")
            else:
                status, answer = stand_in.complete(body)
                self.send(status, json.dumps(stand_in.change(answer) if status == 200 else answer).encode())

    return Handler


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve at a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stand_in))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
