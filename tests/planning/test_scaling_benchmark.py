"""The program behind the page on scaling runs, and its pages have places for what it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "scaling.md", ROOT / "docs" / "results" / "scaling.md")
PLACE = re.compile(r"<!-- (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def test_no_place_of_the_pages_is_empty() -> None:
    for page in PAGES:
        found = PLACE.findall(page.read_text())
        assert found
        for name, block in found:
            assert block.count("|") > 10, name


@pytest.mark.slow
def test_with_tiny_models(tmp_path: Path) -> None:
    copies = [tmp_path / f"{index}.md" for index, _ in enumerate(PAGES)]
    for page, copy in zip(PAGES, copies, strict=True):
        copy.write_text(PLACE.sub(lambda found: f"<!-- {found[1]} -->\n<!-- end -->", page.read_text()))
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--tiny", "--pages", *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr[-3000:]
    for page, copy in zip(PAGES, copies, strict=True):
        assert [name for name, _ in PLACE.findall(page.read_text())] == [
            name for name, _ in PLACE.findall(copy.read_text())
        ]
        for name, block in PLACE.findall(copy.read_text()):
            assert block.count("|") > 10, name
            assert block.strip() in done.stdout
    assert "720,000 samples" in done.stdout
