"""A served model against a real server: what is sent, and what becomes of everything that can go wrong."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.common.json_http import Retries
from taid_vlm_eval import open_model
from taid_vlm_eval.answers import read_answers
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.openai import ServedModel, open_served, parse_address
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import small_task, write_rows, write_task
from tests.eval.servers import MODEL, Reply, Server, answer, error, free_port, images_of, serving, text_of

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789abcdef"


def opened(server: Server, timeout: float = 5.0, **retries: float) -> ServedModel:
    return open_served(f"{MODEL}@{server.url}", timeout=timeout, retries=Retries(**{"pause": 0.01, **retries}))  # type: ignore[arg-type]


def noise(seed: int, size: tuple[int, int] = (13, 7)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_pictures_arrive_equal_pixel_by_pixel_and_in_order() -> None:
    sent = [noise(0), noise(1, (64, 3))]
    with serving(lambda body: "two") as server:
        assert opened(server).generate([Request("what?", sent)], 9) == ["two"]
    (body,) = server.asked
    received = images_of(body)
    assert [np.asarray(image).tolist() for image in received] == [np.asarray(image).tolist() for image in sent]
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert {key: body[key] for key in ("model", "max_tokens", "temperature", "stream")} == {
        "model": MODEL,
        "max_tokens": 9,
        "temperature": 0,
        "stream": False,
    }
    assert isinstance(body["seed"], int)


def test_turns_layouts_and_plain_text() -> None:
    image = noise(2)
    asked = [
        Request("and now?", [image], earlier=(("what?", "red"), ("sure?", "yes"))),
        Request("this or that?", [image], layout=("this ", 0, " or that?")),
        Request("plain"),
    ]
    with serving(lambda body: "ok") as server:
        opened(server).generate(asked[:1], 4)
        opened(server).generate(asked[1:2], 4)
        opened(server).generate(asked[2:], 4)
    turns, layout, plain = (body["messages"] for body in server.asked)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [part["type"] for part in turns[0]["content"]] == ["image_url", "text"]
    assert [turn["content"] for turn in turns[1:]] == ["red", "sure?", "yes", "and now?"]
    assert [part.get("text") for part in layout[0]["content"]] == ["this ", None, " or that?"]
    assert plain == [{"role": "user", "content": "plain"}]


@pytest.mark.parametrize("request_", [Request("q", max_tiles=6), Request("q", answer_start="Answer:")])
def test_what_no_server_can_be_told_is_refused(request_: Request) -> None:
    with serving() as server, pytest.raises(UserError, match="a served model cannot be told so"):
        opened(server).generate([request_], 4)
    assert server.asked == []


@pytest.mark.parametrize("request_", [Request("q", plain=True), Request("", plain=True, ids=(1, 2))])
def test_text_outside_a_template_is_refused(request_: Request) -> None:
    with serving() as server, pytest.raises(UserError, match="outside any chat template"):
        opened(server).generate([request_], 4)
    assert server.asked == []


def test_stops_are_sent_within_the_limit_and_cut_what_comes_back() -> None:
    stops = ("", "1", "2", "3", "4", "END")
    with serving(lambda body: " it is red END and 1 more") as server:
        said = opened(server).generate([Request("q", stops=stops)], 4)
        assert said == ["it is red"]
        assert opened(server).generate([Request("q")], 4) == ["it is red END and 1 more"]
    assert [body.get("stop") for body in server.asked] == [["1", "2", "3", "4"], None]


def test_a_batch_is_in_flight_at_once_and_keeps_its_order() -> None:
    together = threading.Barrier(8, timeout=5)

    def rule(body: dict[str, Any]) -> str:
        together.wait()  # passes only when all eight are here
        return text_of(body)

    with serving(rule) as server:
        said = opened(server).generate([Request(f"q{place}") for place in range(8)], 4)
    assert said == [f"q{place}" for place in range(8)]
    assert server.most == 8


JUNK = {
    "html": Reply(b"<html><body>502 Bad Gateway</body></html>", headers={"Content-Type": "text/html"}),
    "html called json": Reply(b"<html></html>"),
    "nothing": Reply(b""),
    "half": Reply(answer("red").body[:-5]),
    "a list": Reply(b"[]"),
    "a number": Reply(b"7"),
    "no choices": Reply(b'{"model": "tiny"}'),
    "empty choices": Reply(b'{"choices": []}'),
    "choices of a kind": Reply(b'{"choices": {"0": 1}}'),
    "a choice that is none": Reply(b'{"choices": ["red"]}'),
    "no message": Reply(b'{"choices": [{"text": "red"}]}'),
    "no content": Reply(b'{"choices": [{"message": {"role": "assistant"}}]}'),
    "content is a number": Reply(answer(7).body),
    "content is parts": Reply(answer([{"type": "text", "text": "red"}]).body),
    "broken UTF-8": Reply(b'{"choices": "\xff\xfe'),
    "nested without end": Reply(b'{"a":' * 100_000),
    "an error with status 200": Reply(b'{"error": {"message": "model is overloaded"}}'),
    "400": error(400, "the prompt is too long"),
    "404": Reply(b"not found", 404),
    "a redirect": Reply(b"", 302, {"Location": "http://127.0.0.1:1/v1"}),
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_the_fault_of_one_request_and_is_not_repeated(kind: str) -> None:
    with serving(lambda body: JUNK[kind] if text_of(body) == "bad" else "red") as server:
        said = opened(server).generate([Request("good"), Request("bad"), Request("fine")], 4)
    assert (said[0], said[2]) == ("red", "red")
    assert isinstance(said[1], AnswerFault)
    expected = f"HTTP {JUNK[kind].status}" if JUNK[kind].status != 200 else "junk: "
    assert said[1].text.startswith(expected)
    assert len(said[1].text) < 500
    assert "\n" not in said[1].text
    assert len(server.asked) == 3


def test_a_null_answer_is_an_empty_one_and_a_wrong_content_type_does_not_matter() -> None:
    replies = [answer(None), replace(answer(" red\n"), headers={"Content-Type": "text/plain"})]
    with serving(lambda body: replies[int(text_of(body))]) as server:
        assert opened(server).generate([Request("0"), Request("1")], 4) == ["", "red"]


@pytest.mark.parametrize(
    "bad",
    [
        error(500, "out of luck"),
        error(503, "loading"),
        error(429, "slow down"),
        replace(answer("red"), cut=20),
        replace(answer("red"), cut=0),
    ],
    ids=["500", "503", "429", "cut short", "closed"],
)
def test_what_passes_is_tried_again(bad: Reply) -> None:
    replies = [bad, bad, answer("red")]
    with serving(lambda body: replies.pop(0)) as server:
        assert opened(server).generate([Request("q")], 4) == ["red"]
    assert len(server.asked) == 3


def test_attempts_are_bounded_and_the_reason_is_kept() -> None:
    with serving(lambda body: error(500, "out of luck")) as server:
        (said,) = opened(server).generate([Request("q")], 4)
    assert isinstance(said, AnswerFault)
    assert said.text == "HTTP 500: out of luck"
    assert len(server.asked) == Retries().attempts


def test_retry_after_is_obeyed_and_bounded() -> None:
    replies = [error(429, "wait", **{"Retry-After": "0.3"}), answer("red")]
    with serving(lambda body: replies.pop(0)) as server:
        start = time.monotonic()
        assert opened(server, pause=0.0).generate([Request("q")], 4) == ["red"]
        assert time.monotonic() - start >= 0.3
        replies[:] = [error(429, "wait", **{"Retry-After": "86400"}), answer("blue")]
        start = time.monotonic()
        assert opened(server, longest=0.05).generate([Request("q")], 4) == ["blue"]
        assert time.monotonic() - start < 2


def test_a_server_that_goes_away_costs_pauses_only_once() -> None:
    with serving() as server:
        model = opened(server, pause=0.1)
    start = time.monotonic()
    (first,) = model.generate([Request("q")], 4)
    assert time.monotonic() - start >= 0.1 + 0.2 + 0.4
    start = time.monotonic()
    later = model.generate([Request(f"q{place}") for place in range(20)], 4)
    assert time.monotonic() - start < 1
    assert {fault.text for fault in (first, *later) if isinstance(fault, AnswerFault)} == {
        "connection refused: nothing listens there"
    }
    assert len(later) == 20


def test_stopped_by_hand_nothing_waits_for_the_server() -> None:
    with serving(lambda body: Reply(wait=30)) as server:
        model = opened(server, timeout=30)

        class ByHand(BaseException):
            pass

        def stop(*_: Any) -> Any:
            raise ByHand

        answering = model._answer
        model._answer = lambda request, most: stop() if request.prompt == "stop" else answering(request, most)  # type: ignore[method-assign]
        start = time.monotonic()
        with pytest.raises(ByHand):
            model.generate([Request("stop"), *(Request(f"q{place}") for place in range(4))], 4)
        assert time.monotonic() - start < 5


# The key.


def everywhere(model: ServedModel, said: list[Any]) -> str:
    return json.dumps(model.describe()) + repr(model) + repr(vars(model)) + "".join(map(repr, said))


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    replies = {
        "echo": answer(f"Bearer {KEY}", model=KEY),
        "error": error(401, f"Incorrect API key provided: {KEY}."),
        "plain": Reply(f"denied to {KEY}".encode(), 403),
        "long": Reply(("x" * 290 + KEY).encode(), 400),
        "junk": Reply(f"<p>{KEY}</p>".encode()),
        "object": Reply(json.dumps({"you sent": KEY}).encode()),
        "deep": answer({"key": KEY}),
    }
    with serving(lambda body: replies[text_of(body)], probe=answer("yes", model=KEY)) as server:
        model = opened(server)
        said = model.generate([Request(name) for name in replies], 4)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    assert KEY[:8] not in everywhere(model, list(said)).replace(repr(model._endpoint), "")
    assert said[0] == "Bearer [key]"
    assert KEY not in repr(model._endpoint)
    assert KEY not in json.dumps(server.asked)


def test_the_key_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as elsewhere:
        moved = Reply(b"", 307, {"Location": f"{elsewhere.url}/chat/completions"})
        with serving(lambda body: moved) as server:
            (said,) = opened(server).generate([Request("q")], 4)
    assert isinstance(said, AnswerFault)
    assert "redirect" in said.text
    assert elsewhere.headers == []


def test_a_named_variable_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY)
    with serving() as server:
        open_model(server.address)
        open_model(server.address, key_variable="OTHER_KEY")
    sent = [headers.get("Authorization") for headers in server.headers]
    assert sent == [None, None, f"Bearer {KEY}", f"Bearer {KEY}"]  # the probe and the listing, twice


@pytest.mark.parametrize("bad", ["two words-of-a-key", "line\nbreak-in-a-key", "schlüssel-0123456789"])
def test_a_key_that_no_header_can_carry_is_not_repeated(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with serving() as server, pytest.raises(UserError, match="OPENAI_API_KEY holds") as caught:
        open_model(server.address)
    assert bad not in str(caught.value)


def test_a_word_in_the_place_of_a_key_is_not_cut_out_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(lambda body: "the glass is EMPTY") as server:
        assert opened(server).generate([Request("q")], 4) == ["the glass is EMPTY"]


# Before a run.


@pytest.mark.parametrize(
    ("text", "model", "url"),
    [
        ("tiny@http://localhost:8000/v1", "tiny", "http://localhost:8000/v1"),
        ("org/name:tag@rev@https://host/v1/", "org/name:tag@rev", "https://host/v1"),
        ("m@http://[::1]:80/v1", "m", "http://[::1]:80/v1"),
    ],
)
def test_addresses(text: str, model: str, url: str) -> None:
    address = parse_address(text)
    assert (address.model, address.url) == (model, url)


@pytest.mark.parametrize(
    "text",
    [
        "tiny",
        "tiny@localhost:8000",
        "@http://host/v1",
        "tiny@http://",
        "tiny@http://host:port/v1",
        "tiny@http://a b/v1",
    ],
)
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(UserError, match=r"MODEL@URL|is no URL"):
        parse_address(text)


@pytest.mark.parametrize("url", ["http://me:s3cret@host/v1", "http://host/v1?key=s3cret", "http://host/v1#s3cret"])
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="holds a user, a query or a fragment") as caught:
        parse_address(f"tiny@{url}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (error(401, "no key"), r"HTTP 401: no key; the key is read from the environment variable OPENAI_API_KEY"),
        (error(404, "no such model"), r"HTTP 404: no such model; the URL ends before /chat/completions"),
        (Reply(b"<html>hello</html>"), r"junk: not JSON but '<html>hello</html>'"),
        (Reply(b"{}"), r"junk: no choices"),
    ],
)
def test_a_server_that_refuses_from_the_start(probe: Reply, message: str) -> None:
    with serving(probe=probe) as server, pytest.raises(UserError, match=f"does not serve 'tiny': {message}"):
        opened(server)


def test_an_address_where_nothing_listens() -> None:
    with pytest.raises(
        UserError, match="connection refused: nothing listens there; start the server, or correct the URL"
    ):
        open_served(f"tiny@http://127.0.0.1:{free_port()}/v1", retries=Retries(pause=0.01))


def test_what_the_server_says_of_itself_is_stated() -> None:
    entry = {
        "id": MODEL,
        "owned_by": "vllm",
        "root": "/models/tiny",
        "max_model_len": 4096,
        "created": 1,
        "permission": [],
    }
    listing = Reply(json.dumps({"data": [{"id": "other", "owned_by": "x"}, entry]}).encode())
    with serving(probe=answer("yes", model="tiny-2025-01-01"), listing=listing) as server:
        described = open_model(server.address).describe()
    assert described == {
        "adapter": "openai",
        "name": f"tiny@127.0.0.1:{server.http.server_address[1]}",
        "model": "tiny",
        "url": server.url,
        "sampling": "temperature 0, seed 0",
        "answered_as": "tiny-2025-01-01",
        "owned_by": "vllm",
        "root": "/models/tiny",
        "max_model_len": 4096,
    }


@pytest.mark.parametrize(
    "listing", [b"[]", b'{"data": 7}', b'{"data": [7, {"id": "tiny", "owned_by": []}]}', b"<html>"]
)
def test_a_listing_of_junk_does_not_matter(listing: bytes) -> None:
    with serving(listing=Reply(listing)) as server:
        assert "owned_by" not in open_model(server.address).describe()


def test_prefix_and_adapter_may_not_disagree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="openai: in front of the model and adapter 'transformers' disagree"):
        open_model("openai:tiny@http://host/v1", "transformers")
    with serving() as server:
        assert open_model(f"{MODEL}@{server.url}", "openai").describe()["adapter"] == "openai"
    with pytest.raises(UserError, match="timeout is 0, expected more"):
        open_model(server.address, timeout=0)


def test_what_a_server_failed_is_counted_and_asked_again_and_nothing_is_lost(tmp_path: Path) -> None:
    task, healthy = small_task(tmp_path, 4), False
    bad = {"?": JUNK["html"], "??": error(400, "no")}  # two of four questions are "?"

    def rule(body: dict[str, Any]) -> str | Reply:
        colour = "red" if images_of(body)[0].getpixel((0, 0)) == (255, 0, 0) else "blue"
        return colour if healthy else bad.get(text_of(body), colour)

    with serving(rule) as server:
        (result,) = evaluate(opened(server), [task], output_dir=tmp_path / "out")
        assert (result.n, result.errors, result.value) == (4, 3, 0.25)
        assert any("junk: not JSON" in one["error"] for one in result.first_errors)
        assert result.model["url"] == server.url
        healthy = True
        (result,) = evaluate(opened(server), [task], output_dir=tmp_path / "out")
        assert (result.errors, result.value) == (0, 1.0)
    assert len(server.asked) == 4 + 3


RESUMED = """
import sys
from taid_vlm_eval import open_model
from taid_vlm_eval.runner import evaluate
evaluate(open_model(sys.argv[1]), [sys.argv[2]], output_dir=sys.argv[3], batch_size=8)
"""


def test_a_killed_run_asks_only_what_has_no_answer_again(tmp_path: Path) -> None:
    count, answered, slow = 20, 5, threading.Event()
    write_rows(tmp_path, [{"id": f"q{n}", "question": f"question {n}", "answer": "red"} for n in range(count)])
    task, out = write_task(tmp_path), tmp_path / "out" / "small.answers.jsonl"
    given: list[str] = []

    def rule(body: dict[str, Any]) -> str:
        with lock:
            quick = slow.is_set() or len(given) < answered
            given.append(text_of(body))
        if not quick:
            slow.wait(30)
        return "red"

    lock, paths = threading.Lock(), os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    with serving(rule) as server:
        command = [sys.executable, "-c", RESUMED, server.address, str(task), str(out.parent)]
        with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}) as process:
            deadline = time.monotonic() + 30
            while not out.is_file() or len(read_answers(out)[1]) < answered:
                assert time.monotonic() < deadline, "answers that came were not written while others were waited for"
                time.sleep(0.02)
            process.kill()
        slow.set()
        kept, before = read_answers(out)[1], len(server.asked)
        assert len(kept) == answered
        (result,) = evaluate(opened(server), [task], output_dir=out.parent, batch_size=8)
        assert (result.n, result.errors) == (count, 0)
        assert sorted(server.texts()[before:]) == sorted(f"question {n}" for n in range(count) if f"q{n}" not in kept)
