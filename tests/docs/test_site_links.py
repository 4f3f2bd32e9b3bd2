"""Links, anchors and navigation of the documentation, without the generator; and, where it is installed, a strict build."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, anchors_of, links_of, pages
from tools.build_docs import NEEDS, shown, sources, stage

CONFIG = ROOT / "mkdocs.yml"
ELSEWHERE = ("http://", "https://", "mailto:")
GENERATOR = Path(sys.executable).with_name("zensical")


def navigation() -> list[str]:
    """Pages in the navigation, in its order."""

    def below(part: object) -> list[str]:
        if isinstance(part, str):
            return [part]
        inner = part.values() if isinstance(part, dict) else part
        assert isinstance(inner, list) or isinstance(part, dict)
        return [page for one in inner for page in below(one)]

    return below(yaml.safe_load(CONFIG.read_text())["nav"])


def targets_of(page: str) -> list[tuple[str, str]]:
    """Files of the checkout that a page links to, with the anchor or an empty text."""
    inside = [link for link in links_of(page) if not link.startswith(ELSEWHERE)]
    found = []
    for link in inside:
        path, _, anchor = link.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.resolve().is_relative_to(ROOT), f"{page} links out of the checkout: {link}"
        found.append((file.resolve().relative_to(ROOT).as_posix(), anchor))
    return found


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_to_a_file_of_the_site_and_to_a_heading_in_it(page: str) -> None:
    shipped = {path.as_posix() for path in sources()}
    for file, anchor in targets_of(page):
        assert file in shipped, f"{page} links to {file}, which is not on the site"
        if anchor:
            assert anchor in anchors_of(file), f"{page} links to {file}#{anchor}, which is no heading there"


def test_the_navigation_has_every_page_once() -> None:
    listed = navigation()
    assert sorted(listed) == sorted(pages())


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        ahead += [file for file, _ in targets_of(page) if file.endswith(".md")]
    assert set(pages()) - reached == set()


def test_the_contents_name_every_page_of_the_folder() -> None:
    named = {file for file, _ in targets_of("docs/index.md")}
    assert {page for page in pages() if page.startswith("docs/")} - {"docs/index.md"} <= named


def test_what_a_command_needs_is_told_on_the_site() -> None:
    page = shown("<!-- needs: gpu hub -->\n```sh\ntaid-vlm doctor\n```\n")
    assert page.startswith("*Needs NVIDIA GPUs and the model hub:*\n\n```sh")
    assert all(name == name.lower() and said for name, said in NEEDS.items())


@pytest.mark.skipif(not GENERATOR.is_file(), reason="the generator is not installed (extra docs)")
@pytest.mark.parametrize("broken", ["", "[x](nowhere.md)", "[x](losses.md#nowhere)"])
def test_the_generator_builds_strictly(tmp_path: Path, broken: str) -> None:
    stage(tmp_path / "build")
    build = tmp_path / "build"
    with (build / "pages" / "docs" / "architecture.md").open("a") as page:
        page.write(f"\n{broken}\n")
    command = [GENERATOR, "build", "--strict", "--config-file", build / "mkdocs.yml"]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(broken), done.stdout + done.stderr
    if not broken:
        built = build / "site" / "docs"
        assert 'src="pictures/taid.html"' in (built / "how-taid-works.html").read_text()
        assert (built / "pictures" / "taid.html").is_file()
