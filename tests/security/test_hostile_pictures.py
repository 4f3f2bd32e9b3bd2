"""Pictures and picture paths of strangers: counted as broken, whatever they are, and never decoded, drawn, awaited or fetched."""

import io
import json
import os
import socket
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from taid_vlm.chat import chat
from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import sha256_of
from taid_vlm.common.picture_bounds import MOST, USUAL, VARIABLE, max_pixels
from taid_vlm.data import BadSampleError, open_image
from taid_vlm.data.images import image_size
from taid_vlm.data.pictures import PictureBytes, PictureDigests
from taid_vlm.data.sources.mixing import SOURCES
from taid_vlm.recipe.data_spec import DataSource
from taid_vlm_eval.data.picture_table import size_of
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, task_content
from tests.test_chat import save
from tests.tiny.recipes import tiny_recipe

WIDE = 60_000  # 60,000 x 60,000 pixels are 11 GB as RGB


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, kind, **options)
    return stream.getvalue()


def patched(raw: bytes, old: bytes, at: int = 0) -> bytes:
    """With another size where the size of 16 x 16 stands, behind ``at``."""
    place = raw.index(old, at)
    new = {2: struct.pack("<H", WIDE), 4: struct.pack("<I", WIDE)}[len(old) // 2] * 2
    return raw[:place] + new + raw[place + len(old) :]


def jpeg_bomb() -> bytes:
    raw = encoded("JPEG")
    place = raw.index(b"\xff\xc0") + 5
    return raw[:place] + struct.pack(">HH", WIDE, WIDE) + raw[place + 4 :]


BOMBS = {
    "png": png(WIDE, WIDE),
    "jpg": jpeg_bomb(),
    "gif": patched(encoded("GIF"), struct.pack("<HH", 16, 16)),
    "bmp": patched(encoded("BMP"), struct.pack("<II", 16, 16)),
    "ppm": b"P6 60000 60000 255\n" + bytes(48),
    "tga": encoded("TGA")[:12] + struct.pack("<HH", WIDE, WIDE) + encoded("TGA")[16:],
}
BROKEN = {
    "cut": encoded("PNG")[:50],
    "cut_jpg": encoded("JPEG")[:300],
    "text_bomb": png(16, 16, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 << 20)))),
    "empty": b"",
    "page": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/x'/></svg>",
    "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(/tmp/written) (w) file closefile\n%%EOF\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_too_large_in_training_and_in_evaluation(tmp_path: Path, name: str) -> None:
    assert len(BOMBS[name]) < 2_000
    (tmp_path / f"x.{name}").write_bytes(BOMBS[name])
    for picture in (tmp_path / f"x.{name}", PictureBytes(BOMBS[name], "in memory")):
        with pytest.raises(BadSampleError, match="the limit is 100,000,000") as told:
            open_image(picture)
        assert told.value.reason == "picture too large"
    with pytest.raises(BrokenImageError, match="the limit is 100,000,000"):
        open_picture(tmp_path / f"x.{name}")
    assert size_of(tmp_path / f"x.{name}") == (0, 0)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_picture_is_broken_and_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(BadSampleError, match="cannot be read") as told:
        open_image(tmp_path / name)
    assert told.value.reason == "broken picture"
    with pytest.raises(BrokenImageError, match="is unreadable"):
        open_picture(tmp_path / name)


def test_no_format_runs_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand PostScript to Ghostscript."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen.__init__", never)
    (tmp_path / "x.eps").write_bytes(BROKEN["program"])
    for look in (open_image, image_size):
        with pytest.raises(BadSampleError, match="EPS, which another program would have to draw"):
            look(tmp_path / "x.eps")


def test_of_many_frames_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (16, 16), (index, 0, 200)) for index in range(50)]
    monkeypatch.setenv(VARIABLE, "256")  # one frame, and not two
    for kind in ("gif", "webp", "tiff", "png"):
        path = tmp_path / f"x.{kind}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with Image.open(path) as image:
            assert image.n_frames > 1
        assert open_image(path).size == open_picture(path).size == (16, 16)


def test_the_bound_is_one_number_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    assert max_pixels() == 100_000_000
    for limit, fits in (("400", True), ("399", False)):
        monkeypatch.setenv(VARIABLE, limit)
        for look in (open_image, open_picture):
            if fits:
                assert look(tmp_path / "x.png").size == (20, 20)
            else:
                with pytest.raises((BadSampleError, BrokenImageError), match="20 x 20 pixels; the limit is 399"):
                    look(tmp_path / "x.png")


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "many", str(MOST + 1), "²"])
def test_a_bound_that_is_none_is_a_mistake_and_not_a_broken_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    monkeypatch.setenv(VARIABLE, text)
    for look in (open_image, image_size, open_picture, size_of):
        with pytest.raises(UserError, match=rf"TAID_VLM_MAX_PIXELS .*from 1 to {MOST:,}") as told:
            look(tmp_path / "x.png")
        assert not isinstance(told.value, BadSampleError)


def hostile_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, int]:
    """A jsonl of good and hostile records, and how many are good."""
    Image.new("RGB", (16, 16), "red").save(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    for name, raw in {**BOMBS, **BROKEN}.items():
        (folder / f"bad.{name}").write_bytes(raw)
    bad = [
        "pipe.png",
        "/dev/zero",
        "/dev/stdin",
        "/etc/passwd",
        "../../../../../../etc/passwd",
        ".",
        "gone.png",
        "a\0b",
    ]
    bad += ["http://127.0.0.1:9/x.png", "https://example.com/x.png", "ftp://example.com/x.png", "file://host/x.png"]
    bad += ["s3://bucket/x.png", "//example.com/x.png", *(f"bad.{name}" for name in {**BOMBS, **BROKEN})]
    names = ["good.png", str(folder / "good.png"), f"../{folder.name}/good.png", *bad]
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what color?"}]},
                {"role": "assistant", "content": "red"},
            ],
            "images": [name],
        }
        for name in names
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    return folder / "train.jsonl", 3


def test_every_hostile_record_is_counted_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, good = hostile_set(tmp_path, monkeypatch)
    records = SOURCES.get("jsonl")(DataSource(kind="jsonl", path=str(file)))
    digests, reasons, told = PictureDigests(), Counter[str](), list[str]()
    for record in records:
        try:
            record.check()
            for picture in record.images:
                digests[picture]
                image_size(picture)
                open_image(picture)
        except BadSampleError as error:
            reasons[error.reason] += 1
            told.append(str(error))
        else:
            reasons["good"] += 1
    assert "root:" not in "".join(told)  # what lies in a file that is no picture is not told
    assert reasons["good"] == good
    assert reasons["picture by URL"] == 5
    assert reasons["picture too large"] == len(BOMBS)
    assert reasons["picture not found"] + reasons["broken picture"] + reasons["wrong type"] == 9 + len(BROKEN)


def test_a_preview_counts_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language_model: Path, easy_vqa: Path
) -> None:
    from taid_vlm.preview import make_preview, page

    (tmp_path / "set").mkdir()
    file, good = hostile_set(tmp_path / "set", monkeypatch)
    data = {"train": [{"kind": "jsonl", "path": str(file)}], "on_bad_sample": "skip"}
    made = make_preview(tiny_recipe(language_model, easy_vqa, data=data), "hostile", samples=100)
    assert len(made.samples) == good
    assert "root:" not in page(made)


def test_every_hostile_item_is_an_error_in_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    (tmp_path / "set").mkdir()
    file, good = hostile_set(tmp_path / "set", monkeypatch)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    items = [
        {"id": str(n), "question": "what?", "answer": "red", "images": row["images"]} for n, row in enumerate(rows)
    ]
    (tmp_path / "set" / "small.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "set" / "small.yaml").write_text(yaml.safe_dump(task_content()))
    from taid_vlm_eval.task_files import load_task

    task = load_task(str(tmp_path / "set" / "small.yaml"))
    (result,) = evaluate(FakeModel(), [task], output_dir=tmp_path / "out")
    assert (result.n, result.errors) == (len(rows), len(rows) - good)
    assert "root:" not in "".join(one.read_text() for one in (tmp_path / "out").rglob("*.json*"))


def test_chat_refuses_a_bomb_in_one_line(tmp_path: Path, language_model: Path) -> None:
    model = save(tmp_path, language_model, True)
    (tmp_path / "x.png").write_bytes(BOMBS["png"])
    with pytest.raises(UserError, match=r"x\.png has too many pixels .*the limit is 100,000,000"):
        chat(model, tmp_path / "x.png", ["?"], print)
    done = CliRunner().invoke(app, ["chat", model, "--image", str(tmp_path / "x.png"), "--prompt", "?"])
    assert done.exit_code == 1
    assert done.output == ""  # main() prints the message


def test_the_page_states_the_bounds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert f"{VARIABLE}` is the largest" in page
    assert f"{USUAL:,} when it is not set, at most {MOST:,}" in page


def test_what_is_no_plain_file_is_not_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a plain file"):
            sha256_of(path)


def test_a_picture_that_grows_when_it_is_decoded_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an icon Pillow takes the size from a directory, and the picture from a PNG of any size."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG")
    inner = stream.getvalue()
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    (tmp_path / "x.ico").write_bytes(b"\0\0\1\0\1\0" + entry + inner)
    monkeypatch.setenv(VARIABLE, "1000")
    for look in (open_image, open_picture):
        with pytest.raises((BadSampleError, BrokenImageError), match="has 64 x 64 pixels; the limit is 1,000"):
            look(tmp_path / "x.ico")
