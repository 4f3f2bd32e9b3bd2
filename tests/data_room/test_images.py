"""Pictures of every mode come out as upright 8-bit RGB; what cannot be read is named."""

import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from taid_vlm.data import BadSampleError, open_image
from taid_vlm.data.images import image_size
from taid_vlm.data.pictures import (
    Picture,
    PictureBytes,
    PictureInArchive,
    PictureInTable,
    arrow_table,
    picture_in_memory,
)

RED = (255, 0, 0)


def forms(path: Path) -> list[Picture]:
    """The file as it is, and its bytes in memory, in an archive and in two kinds of cells of a table."""
    data = path.read_bytes()
    archive, table = path.with_suffix(".tar"), path.with_suffix(".arrow")
    with tarfile.open(archive, "w") as tar:
        tar.add(path, path.name)
    with tarfile.open(archive) as tar:
        member = tar.getmember(path.name)
    cells = pa.table({"one": [data], "some": [[{"bytes": b"", "path": None}, {"bytes": data, "path": path.name}]]})
    with pa.OSFile(str(table), "wb") as file, pa.ipc.new_stream(file, cells.schema) as stream:
        stream.write_table(cells)
    arrow_table.cache_clear()  # tests write the same name again
    return [
        path,
        PictureBytes(data, str(path)),
        PictureInArchive(archive, path.name, member.offset_data, member.size),
        PictureInTable(table, 0, "one", None, str(path)),
        PictureInTable(table, 0, "some", 1, str(path)),
    ]


def opened(path: Path) -> Image.Image:
    """The picture, which is the same wherever its bytes are."""
    first, *others = [open_image(picture) for picture in forms(path)]
    assert first.mode == "RGB"
    assert all(other.size == first.size and other.tobytes() == first.tobytes() for other in others)
    return first


def corner(path: Path) -> tuple[int, ...]:
    return opened(path).getpixel((0, 0))


def test_exif_orientation_is_applied_once(tmp_path: Path) -> None:
    sideways = Image.new("RGB", (8, 4))
    sideways.paste(RED, (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    sideways.save(tmp_path / "x.png", exif=exif)
    upright = opened(tmp_path / "x.png")
    assert upright.size == (4, 8)
    assert upright.getpixel((0, 0)) == RED
    assert upright.getpixel((0, 7)) == (0, 0, 0)
    assert 0x0112 not in upright.getexif()


@pytest.mark.parametrize("extension", ["png", "gif"])
def test_a_palette_is_looked_up(tmp_path: Path, extension: str) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / f"x.{extension}")
    assert corner(tmp_path / f"x.{extension}") == RED


@pytest.mark.parametrize(("mode", "clear"), [("RGBA", (*RED, 0)), ("LA", (0, 0))])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str, clear: tuple[int, ...]) -> None:
    Image.new(mode, (4, 4), clear).save(tmp_path / "x.png")
    assert corner(tmp_path / "x.png") == (255, 255, 255)


def test_a_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "x.png", transparency=0)
    assert corner(tmp_path / "x.png") == (255, 255, 255)


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "x.png")
    assert corner(tmp_path / "x.png") == (127, 127, 127)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    np.testing.assert_allclose(corner(tmp_path / "x.jpg"), RED, atol=6)


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    values = np.array([[0, 16384], [32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{extension}")
    grey = np.asarray(opened(tmp_path / f"x.{extension}"))[..., 0]
    np.testing.assert_allclose(grey, values / 257, atol=1)


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_a_truncated_picture_is_named(tmp_path: Path, extension: str) -> None:
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole.{extension}"
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(whole)
    cut = tmp_path / f"cut.{extension}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for picture in forms(cut):
        with pytest.raises(BadSampleError, match=r"cannot be read: .*cut\.") as told:
            open_image(picture)
        assert told.value.reason == "broken picture"


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.png").write_bytes(content)
    for picture in forms(tmp_path / "odd.png"):
        with pytest.raises(BadSampleError, match=r"odd\.") as told:
            open_image(picture)
        assert told.value.reason == "broken picture"


def test_a_missing_picture_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=r"not found: .*gone\.png"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(BadSampleError, match="cannot be read"):
        open_image(tmp_path)


def test_an_error_without_words_is_told_by_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise EOFError

    (tmp_path / "x.png").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(BadSampleError, match="EOFError"):
        open_image(tmp_path / "x.png")


def bomb(path: Path, side: int) -> Path:
    """The header of a huge picture, without the picture."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize("side", [10_001, 40_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    for picture in forms(bomb(tmp_path / "huge.png", side)):
        for look in (open_image, image_size):
            with pytest.raises(BadSampleError, match=r"huge\..*pixels") as told:
                look(picture)
            assert told.value.reason == "picture too large"


def test_the_limit_is_ours_and_not_pillow_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (12, 12), RED).save(tmp_path / "x.png")
    # Pillow warns above its limit, which is a tenth lower than ours.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert corner(tmp_path / "x.png") == RED
    monkeypatch.setenv("TAID_VLM_MAX_PIXELS", "143")
    with pytest.raises(BadSampleError, match="12 x 12"):
        open_image(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff", "gif", "bmp", "avif"])
def test_the_size_is_that_of_the_opened_picture(tmp_path: Path, extension: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = tmp_path / f"x.{extension}"
    Image.new("RGB", (24, 16), RED).save(path, **({"exif": exif} if extension not in ("gif", "bmp") else {}))
    assert all(image_size(picture) == open_image(path).size for picture in forms(path))
    turned = orientation in (5, 6, 7, 8) and extension not in ("gif", "bmp")
    assert image_size(path) == ((16, 24) if turned else (24, 16))


def test_an_orientation_behind_the_pixels_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16), RED).save(tmp_path / "x.png", exif=exif)
    data = (tmp_path / "x.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    late = data.index(b"IEND") - 4
    (tmp_path / "x.png").write_bytes(data[:start] + data[end:late] + data[start:end] + data[late:])
    assert image_size(tmp_path / "x.png") == open_image(tmp_path / "x.png").size == (16, 24)


def test_the_size_needs_no_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("x.png", "x.jpg"):
        path = tmp_path / name
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(BadSampleError):
            open_image(path)
        assert image_size(path) == (96, 64)


def test_a_size_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(BadSampleError, match=r"cannot be read: .*x\.png"):
        image_size(tmp_path / "x.png")
    with pytest.raises(BadSampleError, match=r"not found: .*y\.png"):
        image_size(tmp_path / "y.png")


def test_the_first_of_several_frames_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 0, 255), (0, 255, 0))]
    for extension in ("gif", "webp", "png", "tiff"):
        path = tmp_path / f"x.{extension}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if extension == "webp" else {})
        )
        assert corner(path) == RED


MODES = [
    "1",
    "L",
    "LA",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "I",
    "I;16",
    "F",
    "PA",
    "YCbCr",
    "HSV",
    "LAB",
    "RGBX",
    "RGBa",
    "La",
]


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_in_memory_is_that_of_its_file(mode: str) -> None:
    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 255, (6, 9, 4), dtype=np.uint8), "RGBA")
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65535, (6, 9), dtype=np.uint16))
    elif mode == "PA":
        image = base.convert("LA").convert("PA")
    elif mode == "LAB":
        image = Image.merge("LAB", base.convert("RGB").split())
    else:
        image = base.convert("RGB" if mode in ("P", "YCbCr", "HSV", "CMYK", "F", "I", "1") else "RGBA")
        image = image.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    assert image.mode == mode
    picture = picture_in_memory(image, "row 3")
    found = open_image(picture)
    assert (found.mode, found.size) == ("RGB", (9, 6))
    if mode in ("1", "L", "P", "RGB", "CMYK", "RGBX", "YCbCr"):
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(image.convert("RGB"), float), atol=2)
    assert str(picture) == "row 3"


def test_a_picture_in_memory_keeps_its_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "CMYK"):
        image = Image.new(mode, (24, 16))
        image.getexif().update(exif)
        picture = picture_in_memory(image, "here")
        assert image_size(picture) == open_image(picture).size == (16, 24), mode


def test_equal_pictures_are_one_key(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), RED).save(tmp_path / "x.png")
    once, again = forms(tmp_path / "x.png"), forms(tmp_path / "x.png")
    assert once == again
    assert len({*once, *again}) == len(once)
