"""Requests to the server of a teacher, and what is told where they fail."""

from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.json_http import Endpoint, Retries, ServerError, read_key

# A server that starts again, or has too much to do, is waited for half a minute in all; one that does not answer in time is asked
# once more, for that alone takes minutes.
RETRIES = Retries(attempts=7, silent=2, pause=0.5, longest=15.0)
MOST_BYTES = 1 << 30  # of a reply: the likeliest tokens at every place of a long prompt
KEY_VARIABLE = "VLLM_API_KEY"  # what the server itself reads


class Client:
    """One server.

    Args:
        url: of the server, with or without ``/v1``.
        timeout: seconds until a request that is not answered is sent again.
    """

    def __init__(self, url: str, timeout: float = 300.0, retries: Retries = RETRIES) -> None:
        self.url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        self._endpoint = Endpoint(self.url, read_key(KEY_VARIABLE), timeout, retries, MOST_BYTES)

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET, asked once.

        Raises:
            UserError: as ``post``.
        """
        return self._ask(path, None, attempts=1)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST; asked again after time-outs, lost connections and the statuses 408, 425, 429 and 5xx.

        Raises:
            UserError: the server cannot be reached, refuses the request (other 4xx), or does not answer in JSON.
        """
        return self._ask(path, body)

    def _ask(self, path: str, body: dict[str, Any] | None, attempts: int | None = None) -> dict[str, Any]:
        try:
            return self._endpoint.ask(path, body, attempts)
        except ServerError as error:
            raise UserError(self._told(path, error)) from error

    def _told(self, path: str, error: ServerError) -> str:
        if error.again:
            tried = "" if error.attempts == 1 else f" after {error.attempts} attempts"
            return (
                f"the server of the teacher, {self.url}, gave no answer to {path}{tried} ({error}); see whether it runs there "
                f"(vllm serve ...), and teacher.url"
            )
        if error.target:
            return f"the server of the teacher, {self.url}{path}, sends us on to {error.target}: set teacher.url to it if it is yours"
        if error.status == 200:
            return (
                f"{self.url}{path} answered with something else than a vLLM server does ({error}); teacher.url must be that of "
                f"one, such as http://localhost:8000"
            )
        hint = {
            401: f"set the environment variable {KEY_VARIABLE} to its key",
            403: f"set the environment variable {KEY_VARIABLE} to its key",
            404: "teacher.url must be that of a vLLM server, and teacher.served_model a model of it",
        }.get(
            error.status, "where it says that too many log-probabilities are asked for, start it with --max-logprobs K"
        )
        return f"the server of the teacher refused {self.url}{path}: {error}; {hint}"
