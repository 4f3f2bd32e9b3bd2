"""Requests to a server that speaks JSON over HTTP: again where it is worth another try, and told plainly where not."""

import json
import os
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from taid_vlm.common.errors import UserError

# A server that starts again, or has too much to do, is waited for half a minute in all; one that does not answer in time is asked
# once more, for that alone takes minutes.
ATTEMPTS = 7
SILENT_ATTEMPTS = 2
AGAIN = (408, 429)  # and 5xx
FIRST_WAIT = 0.5
LONGEST_WAIT = 15.0
KEY_VARIABLE = "VLLM_API_KEY"  # what the server itself reads


class _NoRedirects(HTTPRedirectHandler):
    """The server's key is for the address in the recipe, and for no other that it may name."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Refuse.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"the server of the teacher, {req.full_url}, sends us on to {newurl}: set teacher.url to it if it is yours"
        )


_OPENER = build_opener(_NoRedirects)


class Client:
    """One server.

    Args:
        url: of the server, with or without ``/v1``.
        timeout: seconds until a request that is not answered is sent again.
        first_wait: seconds before the second attempt; each further wait is twice as long.
    """

    def __init__(
        self, url: str, timeout: float = 300.0, attempts: int = ATTEMPTS, first_wait: float = FIRST_WAIT
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        self.timeout, self.attempts, self.first_wait = timeout, attempts, first_wait

    def get(self, path: str) -> Any:
        """The answer to a GET, asked once.

        Raises:
            UserError: as ``post``.
        """
        return self._ask(path, None, attempts=1)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST; asked again after time-outs, lost connections and the statuses 408, 429 and 5xx.

        Raises:
            UserError: the server cannot be reached, refuses the request (other 4xx), or does not answer in JSON.
        """
        return self._ask(path, json.dumps(body).encode(), self.attempts)

    def _ask(self, path: str, body: bytes | None, attempts: int) -> Any:
        silent = 0
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(LONGEST_WAIT, self.first_wait * 2 ** (attempt - 1)))
            try:
                return self._once(path, body)
            except HTTPError as error:
                said = _said(error)
                if error.code not in AGAIN and error.code < 500:
                    raise UserError(self._refused(path, error.code, said)) from error
                last: Exception | str = f"status {error.code}: {said}"
            except (URLError, HTTPException, OSError) as error:  # a time-out is an OSError
                last = getattr(error, "reason", error)
                silent += isinstance(last, TimeoutError)
                if silent == SILENT_ATTEMPTS:
                    attempts = attempt + 1
                    break
        tried = "" if attempts == 1 else f" after {attempts} attempts"
        raise UserError(
            f"the server of the teacher, {self.url}, gave no answer to {path}{tried} ({last or 'the connection was lost'}); "
            f"see whether it runs there (vllm serve ...), and teacher.url"
        )

    def _once(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        with _OPENER.open(Request(self.url + path, body, headers), timeout=self.timeout) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError as error:
            raise UserError(
                f"{self.url}{path} answered with something else than JSON: {_short(content)!r}; teacher.url must be that of "
                f"a vLLM server, such as http://localhost:8000"
            ) from error

    def _refused(self, path: str, code: int, said: str) -> str:
        hint = {
            401: f"set the environment variable {KEY_VARIABLE} to its key",
            403: f"set the environment variable {KEY_VARIABLE} to its key",
            404: "teacher.url must be that of a vLLM server, and teacher.served_model a model of it",
        }.get(code, "where it says that too many log-probabilities are asked for, start it with --max-logprobs K")
        return f"the server of the teacher refused {self.url}{path} with status {code}: {said}; {hint}"


def _said(error: HTTPError) -> str:
    """What the body of an error says, in a line."""
    try:
        return _short(error.read()) or str(error.reason)
    except (HTTPException, OSError):
        return str(error.reason)


def _short(content: bytes) -> str:
    text = " ".join(content[:2000].decode(errors="replace").split())
    return text if len(text) <= 300 else text[:300] + " ..."
