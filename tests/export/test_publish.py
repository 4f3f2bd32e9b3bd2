"""Uploads to a hub that answers on this machine: what arrives, and the one message for whatever goes wrong."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

import taid_vlm
from taid_vlm.common.errors import UserError
from taid_vlm.export import export_student, publish
from taid_vlm.export.gate import FreshProcess
from taid_vlm.exporting import Wish, export_run
from tests.export.hub import TOKEN, Hub, Repository
from tests.export.students import Combination, trained

ROOT = Path(__file__).parents[2]
CARD = '---\ntags: [taid-vlm]\n---\n# x\n\nfrom_pretrained("FOLDER")\n\n    taid-vlm eval FOLDER --tasks a\n'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub that this process talks to, logged in by a token in the environment."""
    server = Hub()
    for name, value in {"ENDPOINT": server.address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    at_once = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})  # the client waits between its attempts
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Laid out as an export is."""
    made = tmp_path / "runs" / "export"
    for name, raw in {
        "README.md": CARD.encode(),
        "config.json": b"{}\n",
        "model.safetensors": bytes(range(256)) * 50,
        "language_model/model.safetensors": b"\0" * 999,
        "language_model/config.json": b'{"a": 1}',
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(raw)
    return made


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, fresh: FreshProcess) -> Path:
    """The folder of a run with a student and its export."""
    root = tmp_path_factory.mktemp("publish")
    loaded = trained(Combination("clip", "mlp", "qwen2", {"feature": -2}), root, root / "run" / "student")
    export_student(loaded, root / "run" / "export", process=fresh)
    return root / "run"


@pytest.fixture
def run(student: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(student, tmp_path / "run"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arrived(hub: Hub, name: str) -> dict[str, bytes]:
    return {path: raw for path, raw in hub.repositories[name].files.items() if path != ".gitattributes"}


def test_an_export_that_is_there_arrives_byte_for_byte(hub: Hub, run: Path) -> None:
    card = run / "export" / "README.md"
    card.write_text(card.read_text().replace("tags:", "license: mit\ntags:"))  # what its owner fills in is kept
    said = export_run(Wish(run, push="me/pupil", private=True, message="The first one"))
    assert arrived(hub, "me/pupil") == content(run / "export")
    assert "language_model/model.safetensors" in arrived(hub, "me/pupil")
    assert (hub.repositories["me/pupil"].private, hub.repositories["me/pupil"].commits) == (True, ["The first one"])
    assert f"uploaded to {hub.address}/me/pupil (private), commit" in said
    assert "LlavaForConditionalGeneration" in said.splitlines()[0]
    sent = hub.repositories["me/pupil"].files["README.md"].decode()
    assert "license: mit" in sent
    assert 'from_pretrained("me/pupil")' in sent
    assert "FOLDER" not in sent
    # The storage is somebody else's: it must not learn the token.
    assert {bearer for asked, bearer in hub.asked if "/storage/" in asked} == {None}


def test_from_python_the_same(hub: Hub, run: Path) -> None:
    assert taid_vlm.export(run, push="pupil", message="m") == run / "export"  # type: ignore[operator]
    assert list(hub.repositories) == ["me/pupil"]  # the owner is who is logged in
    assert hub.repositories["me/pupil"].private is False
    assert arrived(hub, "me/pupil") == content(run / "export")


def test_an_export_of_other_weights_or_of_another_kind_is_not_taken(hub: Hub, run: Path) -> None:
    with pytest.raises(UserError, match=r"holds an export to llava, and language_model is wanted; delete it"):
        export_run(Wish(run, to="language_model", push="me/pupil"))
    with pytest.raises(UserError, match="without GGUF files"):
        export_run(Wish(run, gguf=True, push="me/pupil"))
    about = json.loads((run / "student" / "student.json").read_text())
    (run / "student" / "student.json").write_text(json.dumps({**about, "sha256": "0" * 64}))
    with pytest.raises(UserError, match="of another student, perhaps of an earlier training; delete it"):
        export_run(Wish(run, push="me/pupil"))
    (run / "export" / "export.json").unlink()
    with pytest.raises(UserError, match="holds no export that could be uploaded"):
        export_run(Wish(run, push="me/pupil"))
    with pytest.raises(UserError, match="exists; choose another folder"):
        export_run(Wish(run))
    assert hub.asked == []


def test_private_and_message_want_a_repository(run: Path) -> None:
    for wish in (Wish(run, private=True), Wish(run, message="m")):
        with pytest.raises(UserError, match="name its repository"):
            export_run(wish)


@pytest.mark.parametrize(
    "name", ["a/b/c", "me/-x", "me/x y", "me/x--y", "me/x.git", "me/ü", "/x", "me/", "https://hub/me/x"]
)
def test_what_is_no_name_is_refused_before_anyone_is_asked(name: str, hub: Hub, run: Path) -> None:
    with pytest.raises(UserError, match=r"no repository can be named .* Expected OWNER/NAME"):
        export_run(Wish(run, run / "new", push=name))
    assert hub.asked == []
    assert not (run / "new").exists()


def test_offline_or_not_logged_in_nothing_is_exported(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot upload to me/x: HF_HUB_OFFLINE is set; unset it .* without an upload"):
        export_run(Wish(run, run / "new", push="me/x"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"cannot upload to me/x: nobody is logged in; 'hf auth login' does it"):
        export_run(Wish(run, run / "new", push="me/x"))
    assert hub.asked == []
    assert not (run / "new").exists()


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.server_close()
    with pytest.raises(UserError, match=rf"cannot upload to me/x: {hub.address} is not reached"):
        publish.full_name("me/x")


def test_a_silent_hub_is_not_waited_for(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "ANSWER_S", 0.2)
    hub.silent |= {"whoami", "repos/create"}
    silent = r"is not reached, or breaks off \(no answer within 0.2 s\)"
    with pytest.raises(UserError, match=f"cannot upload to me/x: .*{silent}"):
        publish.full_name("me/x")
    with pytest.raises(UserError, match=f"not uploaded to me/x: .*{silent}"):
        publish.publish(folder, "me/x")
    assert hub.repositories == {}
    hub.woken.set()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("whoami", 401, "the access token is not accepted; log in again"),
        ("whoami", 500, "the hub has a fault; try again later"),
        ("whoami", 429, "fewer requests"),
        ("repos/create", 401, "not accepted"),
        ("repos/create", 403, "may not write there"),
        ("repos/create", 404, "no such owner or repository"),
        ("repos/create", 502, "try again later"),
        ("tree/", 403, "may not write there"),
        ("preupload/", 404, "no such owner or repository"),
        ("objects/batch", 403, "may not write there"),
        ("/storage/", 503, "try again later"),
        ("commit/", 403, "may not write there"),
        ("commit/", 500, "try again later"),
    ],
)
def test_a_refusal_is_one_message(path: str, status: int, said: str, hub: Hub, folder: Path) -> None:
    hub.answers[path] = (status, f"words\nof the hub, which repeats {TOKEN}")
    before = {**content(folder)}
    with pytest.raises(UserError) as caught:
        publish.publish(folder, publish.full_name("me/x"))
    message = str(caught.value)
    assert re.match(r"(cannot upload to|not uploaded to) me/x: the hub says \d+[ :]", message)
    assert f"the hub says {status}" in message
    assert said in message
    assert "\n" not in message
    assert TOKEN not in message
    assert message.count("me/x") == 1
    assert "me/x" not in hub.repositories or arrived(hub, "me/x") == {}
    now = content(folder)
    if path != "whoami":
        assert f"The export is complete in {folder}, and the same command uploads it" in message
        assert b"me/x" in now.pop("README.md")
        del before["README.md"]
    assert now == before
    # It does, once the hub is well.
    del hub.answers[path]
    publish.publish(folder, publish.full_name("me/x"))
    assert arrived(hub, "me/x") == content(folder)


def test_the_card_names_the_repository_of_its_last_upload(hub: Hub, folder: Path) -> None:
    for name in ("me/one", "me/two"):
        publish.publish(folder, name)
        assert arrived(hub, name)["README.md"] == CARD.replace("FOLDER", name).encode()


def test_another_owner_is_refused_by_the_hub(hub: Hub, folder: Path) -> None:
    publish.publish(folder, publish.full_name("team/x"))
    with pytest.raises(
        UserError, match=r"the hub says 403 .*take a token with the right to write, and an owner for whom"
    ):
        publish.publish(folder, publish.full_name("others/x"))
    assert set(hub.repositories) == {"team/x"}


def test_a_licence_that_the_hub_does_not_know_is_told(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_text(CARD.replace("tags:", "license: my-own\ntags:"))
    with pytest.raises(UserError, match=r"hub says 400 \(Invalid metadata in README.md.: \"license\" must be one of"):
        publish.publish(folder, "me/x")
    assert arrived(hub, "me/x") == {}


def test_what_is_to_be_private_does_not_go_into_a_public_repository(hub: Hub, folder: Path) -> None:
    hub.repositories |= {"me/open": Repository(), "me/closed": Repository(private=True)}
    with pytest.raises(UserError, match="nothing was uploaded to me/open: it exists and is public") as caught:
        publish.publish(folder, "me/open", private=True)
    assert "complete in" in str(caught.value)
    assert hub.repositories["me/open"] == Repository()
    publish.publish(folder, "me/closed", private=True)
    assert arrived(hub, "me/closed") == content(folder)


def test_weights_of_an_earlier_upload_go_and_other_files_stay(hub: Hub, folder: Path) -> None:
    """transformers loads model.safetensors before it looks for shards, and shards by an index."""
    old = (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "language_model/model-00001-of-00001.safetensors",
    )
    kept = ("notes.md", "adapters/adapter_model.safetensors", "models/model.safetensors", ".gitattributes")
    hub.repositories["me/x"] = Repository(files=dict.fromkeys((*old, *kept, "model.safetensors"), b"old"))
    publish.publish(folder, "me/x")
    assert hub.repositories["me/x"].files == {**dict.fromkeys(kept, b"old"), **content(folder)}


def test_stopped_while_it_uploads(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", stopped)
    with pytest.raises(
        KeyboardInterrupt, match=r"the export is complete in .*; the same command goes on with its upload"
    ):
        export_run(Wish(run, push="me/x"))


def test_the_token_is_nowhere(
    hub: Hub, run: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        said = export_run(Wish(run, push="me/x"))
        hub.answers["commit/"] = (403, f"no {TOKEN}")
        with pytest.raises(UserError) as caught:
            export_run(Wish(run, push="me/x"))
    printed = capfd.readouterr()
    for text in (said, str(caught.value), printed.out, printed.err, caplog.text):
        assert TOKEN not in text
    assert all(TOKEN.encode() not in raw for raw in content(run).values())
    assert all(TOKEN.encode() not in raw for raw in hub.repositories["me/x"].files.values())
    assert any(bearer == f"Bearer {TOKEN}" for _, bearer in hub.asked)  # it was used


@pytest.mark.slow
def test_the_command(hub: Hub, run: Path, tmp_path: Path) -> None:
    """In a process of its own, which reads the address and the token from the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }

    def typed(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "taid_vlm", "export", str(run), *words]
        return subprocess.run(command, cwd=ROOT, env=environment | more, capture_output=True, text=True)

    done = typed("--push", "me/pupil", "--private", "--message", "By command")
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {hub.address}/me/pupil (private)" in done.stdout
    assert arrived(hub, "me/pupil") == content(run / "export")
    assert hub.repositories["me/pupil"].commits == ["By command"]
    refused = typed("--push", "me/pupil", HF_TOKEN=TOKEN[::-1])
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = [one for one in refused.stderr.splitlines() if one.startswith("error:")]
    assert "the hub says 401" in line
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert TOKEN not in text
        assert TOKEN[::-1] not in text
    assert all(TOKEN.encode() not in raw for raw in content(tmp_path).values())
