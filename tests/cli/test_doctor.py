"""``taid-vlm doctor``: its list of optional packages is pyproject's, and what follows from what is found."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from taid_vlm.doctor import Findings, look
from taid_vlm.doctor.command import show
from taid_vlm.doctor.findings import to_do
from taid_vlm.doctor.packages import GIVES, Package, extras, needed, outside
from taid_vlm.doctor.surroundings import Hub, _size
from tests.plug_ins.page import write_distribution

PYPROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def found() -> Findings:
    return look(offline=True)


def test_extras_are_those_of_pyproject() -> None:
    section = PYPROJECT.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    assert set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)) == set(GIVES)
    assert {extra.name for extra in extras()} <= set(GIVES)


def test_what_is_installed_is_told_with_its_version(found: Findings) -> None:
    versions = {package.name: package.version for package in found.needed}
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert all(package.fits for package in needed())


def test_json_holds_all_and_people_read_the_same(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(json.dumps(found.to_json()))
    assert content["to_do"] == to_do(found)
    assert content["devices"][0]["fp32"] > 0
    assert "math" in content["devices"][0]["attention"]
    show(found)
    text = capsys.readouterr().out
    assert all(line in text for line in content["to_do"])
    assert all(one["name"] in text for one in content["extras"])


def test_what_to_do_follows_from_what_is_found(found: Findings) -> None:
    calm = replace(found, threads=found.cores, omp=None, hub=Hub("x", "reached"))
    for change, words in [
        ({"hub": Hub("https://hub", "not reached", "no route")}, "HF_HUB_OFFLINE=1"),
        ({"threads": found.cores + 3}, f"OMP_NUM_THREADS={found.cores}"),
        ({"needed": (Package("peft", ">=9", "0.1", False),)}, "pip install 'peft>=9'"),
        ({"folders": tuple(replace(one, free=10**9) for one in found.folders)}, "TAID_VLM_CACHE"),
        ({"driver": True, "devices": found.devices[:1]}, "torch sees no GPU"),
    ]:
        assert not any(words in line for line in to_do(replace(calm, driver=False))), words
        assert any(words in line for line in to_do(replace(calm, **change))), words  # type: ignore[arg-type]


def test_plug_ins_are_told_and_not_imported(
    found: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_distribution(tmp_path, "gates", {"taid_vlm.projectors": {"gate": "no_such_module:Gate"}})
    monkeypatch.syspath_prepend(tmp_path)
    (one,) = [one for one in outside() if one.package == "gates"]
    assert (one.kind, one.name, one.version) == ("projector", "gate", "1.0")
    show(replace(found, plug_ins=(one,)))
    assert "plug-ins: projector gate (gates 1.0)" in capsys.readouterr().out


def test_sizes_count_files_and_follow_no_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert _size(tmp_path) == (1000, True)
    assert _size(tmp_path / "nowhere") == (0, True)
