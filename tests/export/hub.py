"""A model hub on this machine: the part of its HTTP interface that an upload asks, with what arrived kept in memory."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_" + "aB3dE6gH9" * 4  # shaped like a real one
USER, TEAM = "me", "team"  # who the token is of, and where else it may write


@dataclass
class Repository:
    """What the hub keeps. ``commits`` are the summaries."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: by full name. stored: large files, by SHA-256.
        asked: ``METHOD path``, and the header with the access token, of each request.
        answers: what is answered in place of the usual: by a part of the path, the status and the words.
        silent: parts of paths that are not answered before the hub is ``woken``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.silent: set[str] = set()
        self.woken = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.route()

    def do_POST(self) -> None:
        self.route()

    def do_PUT(self) -> None:
        self.route()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def route(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bearer = self.headers.get("Authorization")
        self.server.asked.append((f"{self.command} {path}", bearer))
        if any(part in path for part in self.server.silent):
            self.server.woken.wait()
        for part, (status, words) in self.server.answers.items():
            if part in path:
                return self.say(status, {"error": words})
        if path.startswith("/storage/"):
            self.server.stored[path.removeprefix("/storage/")] = body
            return self.say(200, {})
        if bearer != f"Bearer {TOKEN}":
            return self.say(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            return self.say(200, {"name": USER, "type": "user", "orgs": [{"name": TEAM}]})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        return self.of_repository(path.removeprefix("/api/models/"), body)

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        if name.split("/")[0] not in (USER, TEAM):
            return self.say(403, {"error": f"You don't have the rights to create a model under {name}"})
        url = f"{self.server.address}/{name}"
        if name in self.server.repositories:
            return self.say(409, {"error": "You already created this model repo", "url": url})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.server.repositories[name] = Repository(private, {".gitattributes": b""})
        return self.say(200, {"url": url})

    def validate(self, card: str) -> None:
        from huggingface_hub import ModelCard

        licence = ModelCard(card).data.license
        if licence == "my-own":
            return self.say(400, {"errors": [{"message": '"license" must be one of [apache-2.0, ...]'}]})
        return self.say(200, {"errors": [], "warnings": []})

    def batch(self, asked: dict[str, Any]) -> None:
        found = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{self.server.address}/storage/{one['oid']}"}}
            found.append({**one, **({} if one["oid"] in self.server.stored else {"actions": upload})})
        self.say(200, {"transfer": "basic", "objects": found})

    def of_repository(self, rest: str, body: bytes) -> None:
        owner, called, *inside = rest.split("/", 2)
        name, what = f"{owner}/{called}", "".join(inside)
        repository = self.server.repositories.get(name)
        if repository is None:
            return self.say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if what.startswith("preupload/"):
            files = [
                {"path": one["path"], "uploadMode": mode(one["path"]), "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            return self.say(200, {"files": files})
        if what.startswith("tree/"):
            assert "recursive=true" in self.path.lower()
            entries = [
                {"type": "file", "path": path, "size": len(raw), "oid": "0" * 40}
                for path, raw in repository.files.items()
            ]
            return self.say(200, entries)
        if what.startswith("commit/"):
            return self.commit(name, repository, [json.loads(line) for line in body.splitlines()])
        return self.say(
            200,
            {"id": name, "modelId": name, "private": repository.private, "sha": "0" * 40, "tags": [], "siblings": []},
        )

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        files = dict(repository.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                raw = self.server.stored[value["oid"]]
                assert hashlib.sha256(raw).hexdigest() == value["oid"]
                files[value["path"]] = raw
            else:
                assert line["key"] == "deletedFile", line
                del files[value["path"]]
        repository.files = files
        oid = f"{len(repository.commits):040x}"
        self.say(200, {"commitUrl": f"{self.server.address}/{name}/commit/{oid}", "commitOid": oid})

    def say(self, status: int, content: Any, more: dict[str, str] | None = None) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)


def mode(path: str) -> str:
    """How the hub wants a file: weights and long tokenizers apart from the others."""
    return "lfs" if path.endswith((".safetensors", "tokenizer.json")) else "regular"
