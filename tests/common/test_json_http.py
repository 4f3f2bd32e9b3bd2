"""JSON over HTTP: deadlines, retries, and what may not be in a reply or a key."""

import time
from dataclasses import replace

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.common.json_http import Endpoint, Retries, ServerError, _retry_after, read_key
from tests.eval.servers import Reply, answer, error, serving, text_of


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Wed, 21 Oct 2099 07:28:00 GMT", 1e9, 1e10)],
)
def test_both_forms_of_retry_after_are_read(header: str, low: float, high: float) -> None:
    seconds = _retry_after(header)
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "Wed, 99 Oct"])
def test_a_retry_after_that_says_nothing(header: str | None) -> None:
    assert _retry_after(header) is None


@pytest.mark.parametrize("slow", [Reply(wait=30), replace(answer("red"), each=0.05)], ids=["silent", "drips"])
def test_a_server_that_never_finishes_is_left_at_the_deadline(slow: Reply) -> None:
    with serving(lambda body: slow if text_of(body) == "slow" else "red") as server:
        endpoint = Endpoint(server.url, None, 0.3, Retries(pause=0.01))
        start = time.monotonic()
        with pytest.raises(ServerError, match=r"timed out: no whole reply within 0\.3 s"):
            endpoint.ask("/chat/completions", {"messages": [{"content": "slow"}]}, attempts=2)
        assert 0.6 <= time.monotonic() - start < 3
        # The endpoint goes on as if nothing had been.
        assert endpoint.ask("/chat/completions", {"messages": [{"content": "fast"}]})["choices"]


BODY = {"messages": [{"content": "q"}]}


@pytest.mark.parametrize(
    ("bad", "attempts"), [(Reply(wait=30), 2), (error(500, "out of luck"), 4), (error(400, "wrong"), 1)]
)
def test_how_often_is_asked_depends_on_what_comes_back(bad: Reply, attempts: int) -> None:
    with serving(lambda body: bad) as server:
        endpoint = Endpoint(server.url, None, 0.2, Retries(attempts=4, silent=2, pause=0.01))
        with pytest.raises(ServerError) as raised:
            endpoint.ask("/chat/completions", BODY)
    assert raised.value.attempts == attempts


def test_a_reply_may_be_so_long_and_no_longer() -> None:
    reply = answer("x" * 100)
    length = len(reply.body)
    with serving(lambda body: reply) as server:
        assert Endpoint(server.url, None, 5.0, most_bytes=length).ask("/chat/completions", BODY)["choices"]
        with pytest.raises(ServerError, match="junk: a reply of more than"):
            Endpoint(server.url, None, 5.0, most_bytes=length - 1).ask("/chat/completions", BODY)


def test_a_redirect_is_told_and_not_followed() -> None:
    with serving() as elsewhere:
        target = f"{elsewhere.url}/chat/completions"
        moved = Reply(b"", 307, {"Location": target})
        with serving(lambda body: moved) as server, pytest.raises(ServerError) as raised:
            Endpoint(server.url, "sk-0123456789", 5.0).ask("/chat/completions", BODY)
    assert (raised.value.target, raised.value.again, elsewhere.asked) == (target, False, [])


def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_key("A_KEY_OF_OURS") is None
    monkeypatch.setenv("A_KEY_OF_OURS", " sk-1 \n")
    assert read_key("A_KEY_OF_OURS") == "sk-1"
    monkeypatch.setenv("A_KEY_OF_OURS", "open sesame")
    with pytest.raises(UserError, match="A_KEY_OF_OURS holds spaces") as raised:
        read_key("A_KEY_OF_OURS")
    assert "sesame" not in str(raised.value)
