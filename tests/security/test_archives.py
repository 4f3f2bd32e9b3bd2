"""Archives of others: what leaves its folder, links, doubles or explodes is refused, and nothing of it stays."""

import io
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from taid_vlm.common import assets
from taid_vlm.common.archives import unpack_zip
from taid_vlm.common.errors import UserError
from taid_vlm.data.record import Record
from taid_vlm.data.sources.mixing import SOURCES
from taid_vlm.recipe.data_spec import DataSource

MOST = 1 << 20


def zipped(file: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return file


def of_kind(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def unpacked(file: Path, tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "room" / "folder"
    folder.mkdir(parents=True)
    unpack_zip(file, folder, MOST)
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_plain_files_and_folders_are_unpacked(tmp_path: Path) -> None:
    file = zipped(
        tmp_path / "a.whl", ("a/", b""), ("a/b.txt", b"hello"), (of_kind("a/c/d", stat.S_IFREG), b"x" * 70_000)
    )
    assert unpacked(file, tmp_path) == {"a/b.txt": b"hello", "a/c/d": b"x" * 70_000}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../out.txt", "leaves its folder"),
        ("a/../../out.txt", "leaves its folder"),
        ("/out.txt", "leaves its folder"),
        ("..\\out.txt", "leaves its folder"),
        ("C:/out.txt", "leaves its folder"),
        (of_kind("link", stat.S_IFLNK), "link or a device"),
        (of_kind("null", stat.S_IFCHR), "link or a device"),
        (of_kind("pipe", stat.S_IFIFO), "link or a device"),
    ],
)
def test_what_is_no_plain_file_below_the_folder_is_refused(
    tmp_path: Path, member: zipfile.ZipInfo | str, why: str
) -> None:
    file = zipped(tmp_path / "a.whl", ("good.txt", b"good"), (member, b"/etc/passwd"))
    with pytest.raises(UserError, match=rf"a\.whl holds .*{why}.*not unpacked"):
        unpacked(file, tmp_path)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [file]  # the good one was not written either


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a.txt", "./a.txt", "a.txt/b.txt"])
def test_one_name_twice_is_refused(tmp_path: Path, second: str) -> None:
    file = zipped(tmp_path / "a.whl", ("a.txt", b"1"), (second, b"2"))
    with pytest.raises(UserError, match="not unpacked"):
        unpacked(file, tmp_path)


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.whl", ("a", bytes(MOST // 2)), ("b", bytes(MOST // 2 + 1)))
    assert file.stat().st_size < 5_000
    with pytest.raises(UserError, match=r"would unpack to 1,048,577 bytes, more than the 1,048,576"):
        unpacked(file, tmp_path)
    assert not list((tmp_path / "room").rglob("a"))


def test_a_bomb_that_lies_about_its_size_gives_no_more_than_it_states(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.whl", ("a", bytes(MOST)))
    raw = file.read_bytes()
    honest, lie = MOST.to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert raw.count(honest) == 2  # in front of the member, and in the directory at the end
    file.write_bytes(raw.replace(honest, lie))
    with pytest.raises(UserError, match=r"a\.whl is damaged .*not unpacked"):
        unpacked(file, tmp_path)
    assert (tmp_path / "room" / "folder" / "a").stat().st_size <= 100


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_half_an_archive_is_told(tmp_path: Path, cut: int) -> None:
    file = zipped(tmp_path / "a.whl", ("a.txt", b"hello"))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match="is damaged"):
        unpacked(file, tmp_path)


def test_the_hash_of_an_asset_is_checked_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = assets.cache_folder() / "wheels" / "small.whl"
    wheel.parent.mkdir(parents=True)
    zipped(wheel, ("a.txt", b"hello"))
    monkeypatch.setitem(assets.ASSETS, "small", assets.Asset("small", "1.0", wheel.name, "0" * 64, 100, "MIT"))

    def never(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(assets, "unpack_zip", never)
    with pytest.raises(UserError, match="wrong hash"):
        assets.asset_path("small")


def test_assets_are_downloaded_as_wheels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source archive would be built, which runs its code, before there is anything to check."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> object:
        seen.append(command)
        raise UserError("stopped here")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(UserError, match="stopped here"):
        assets.asset_path("easy-vqa")
    assert {"--no-deps", "--only-binary=:all:"} <= set(seen[0])


def records(shard: Path) -> list[Record]:
    return list(SOURCES.get("webdataset")(DataSource(kind="webdataset", path=str(shard))))


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


JSON = b'{"messages": [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "red"}]}'


def write_shard(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file


def test_members_of_a_shard_that_are_no_plain_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    kinds = {tarfile.SYMTYPE: "secret.png", tarfile.LNKTYPE: "a.json", tarfile.CHRTYPE: "", tarfile.FIFOTYPE: ""}
    odd = [member("a.png", kind=kind, link=link) for kind, link in kinds.items()]
    (record,) = records(write_shard(tmp_path / "s.tar", member("a.json", JSON), *odd))
    assert record.images == ()
    assert record.broken is None


def test_names_of_members_lead_nowhere(tmp_path: Path) -> None:
    """They name samples; what is read lies in the archive, and nothing is written."""
    before = sorted(tmp_path.rglob("*"))
    shard = write_shard(tmp_path / "s.tar", member("../../out.json", JSON), member("/etc/out.json", JSON))
    found = records(shard)
    assert [record.broken for record in found] == [None, None]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, shard])


def test_one_name_twice_is_a_broken_sample(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "s.tar",
        member("a.json", JSON),
        member("a.json", JSON),
        member("b.json", JSON),
        member("b.txt", b"x"),
    )
    first, second = records(shard)
    assert first.broken is not None
    assert "two files 'json' of this sample" in first.broken.message
    assert second.broken is None


def test_a_sparse_member_takes_no_memory(tmp_path: Path) -> None:
    """512 bytes of an archive that stand for 100 GB of zeros."""
    info, _ = member("a.json", kind=tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (100 << 30).to_bytes(11, "big")  # its real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    shard = tmp_path / "s.tar"
    shard.write_bytes(bytes(header) + bytes(2 * 512))
    with tarfile.open(shard) as archive:
        assert archive.getmembers()[0].size == 100 << 30  # the stand-in is one
    tracemalloc.start()
    assert records(shard) == []
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
