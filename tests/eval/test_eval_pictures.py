"""Pictures are decoded as in training, and one that cannot be is named, counted and wrong."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taid_vlm.data import open_image
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, sees_colour, small_task


def write_all_kinds(folder: Path) -> list[Path]:
    draw = np.random.default_rng(0)
    colours = draw.integers(0, 255, (6, 8, 4), dtype=np.uint8)
    Image.fromarray(colours[..., :3]).save(folder / "rgb.png")
    Image.fromarray(colours).save(folder / "clear.png")
    Image.fromarray(colours[..., 0]).save(folder / "grey.png")
    Image.fromarray(colours[..., :2], mode="LA").save(folder / "grey_clear.png")
    Image.fromarray(draw.integers(0, 65535, (6, 8), dtype=np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(draw.random((6, 8), dtype=np.float32)).save(folder / "float.tiff")
    Image.new("1", (8, 6), 1).save(folder / "bits.png")
    palette = Image.fromarray(colours[..., :3]).quantize(8)
    palette.save(folder / "palette.png", transparency=0)
    palette.save(folder / "palette.gif")
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(folder / "print.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours[..., :3]).save(folder / "turned.png", exif=exif)
    return sorted(folder.iterdir())


def test_a_picture_is_the_same_as_in_training(tmp_path: Path) -> None:
    paths = write_all_kinds(tmp_path)
    assert len(paths) == 11
    for path in paths:
        ours, trained = open_picture(path), open_image(path)
        assert ours.mode == trained.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(trained), err_msg=path.name)
    # Not merely equal to each other: turned by EXIF, white where it was clear, scaled and not clipped.
    assert open_picture(tmp_path / "turned.png").size == (6, 8)
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "glass.png")
    assert open_picture(tmp_path / "glass.png").getpixel((0, 0)) == (255, 255, 255)
    assert len(np.unique(np.asarray(open_picture(tmp_path / "sixteen.png")))) > 10


def broken(folder: Path) -> dict[str, str]:
    """Names of broken pictures, and what is said of each."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "whole.png")
    raw = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(raw[: len(raw) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.png").write_bytes(b"<html>not found</html>")
    (folder / "folder.png").mkdir()
    header = struct.pack(">IIBBBBB", 10_001, 10_001, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return {
        "gone.png": "missing",
        "cut.png": "unreadable",
        "empty.png": "unreadable",
        "page.png": "unreadable",
        "folder.png": "unreadable",
        "huge.png": r"too large: it has 10001 x 10001 pixels",
    }


def test_a_broken_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, what in broken(tmp_path).items():
        with pytest.raises(BrokenImageError, match=f"^image {name} is {what}"):
            open_picture(tmp_path / name)

    def fails(path: Path) -> None:
        raise EOFError

    (tmp_path / "x.png").touch()
    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(BrokenImageError, match=r"x\.png is unreadable \(EOFError\)"):
        open_picture(tmp_path / "x.png")


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_broken_pictures_are_counted_as_wrong_and_the_rest_is_asked(tmp_path: Path, batch_size: int) -> None:
    task = small_task(tmp_path)
    raw = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "7.png").unlink()
    model = FakeModel(sees_colour)
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", batch_size=batch_size)
    assert (result.n, result.errors, result.value) == (10, 2, 0.8)
    assert result.parse_notes == {"strict": 8, "lenient": 0, "none": 0, "empty": 0, "error": 2}
    assert [one["id"] for one in result.first_errors] == ["q4", "q7"]
    assert result.first_errors[0]["error"].startswith("image 4.png is unreadable")
    assert result.first_errors[1]["error"] == "image 7.png is missing"
    assert sum(map(len, model.batches)) == 8


def test_a_task_of_only_broken_pictures_has_a_result(tmp_path: Path) -> None:
    task = small_task(tmp_path, 7)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"")
    model = FakeModel()
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out")
    assert (result.value, result.errors, result.answers_per_second, model.batches) == (0.0, 7, None, [])
    assert len(result.first_errors) == 5
    assert json.loads((tmp_path / "out" / "small.result.json").read_text())["errors"] == 7
