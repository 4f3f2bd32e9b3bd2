"""Pages as Chromium shows them: what loaded, where links lead, and what went wrong. No driver is needed, only the program."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")

# Asked in a copy of the page itself, in a frame as wide as the screen is to be.
PROBE = """<script>document.title = JSON.stringify({
scripts: document.querySelectorAll("script").length - 1,
pictures: [...document.images].map(one => one.complete ? one.naturalWidth : 0),
unnamed: [...document.images].filter(one => !one.alt).length,
links: document.links.length,
dead: [...document.links].map(one => one.getAttribute("href")).filter(to => !to.startsWith("#") || !document.getElementById(to.slice(1))),
unreachable: [...document.links, ...document.querySelectorAll("summary")].filter(one => one.tabIndex < 0).length,
wider: document.documentElement.scrollWidth > innerWidth,
background: getComputedStyle(document.body).backgroundColor})</script></body>"""


@dataclass(frozen=True)
class Seen:
    """What a reader meets.

    Attributes:
        errors: lines of the console, of the page as it is.
        scripts: elements of the page that are scripts.
        pictures: the width in pixels of each picture, 0 where it did not load; ``unnamed`` of them have no text instead.
        links, dead: how many links there are, and the targets of those that lead out of the page or nowhere.
        unreachable: links and the like that the keyboard does not get to.
        wider: whether the page must be scrolled sideways.
    """

    errors: list[str]
    scripts: int
    pictures: list[int]
    unnamed: int
    links: int
    dead: list[str]
    unreachable: int
    wider: bool
    background: str


def visit(page: str, folder: Path, *, width: int = 1200, dark: bool = False) -> Seen:
    """Open a page twice: as it is, and a copy with a probe, which alone may run a script.

    Args:
        folder: for files of the browser.
        width: of the screen, in pixels.
    """
    (folder / "visited.html").write_text(page, encoding="utf-8")
    errors = re.findall(r"^.*CONSOLE.*$", _run(folder / "visited.html", dark).stderr, re.MULTILINE)
    probed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*/>', "", page).replace("</body>", PROBE)
    frame = f'<iframe style="width: {width}px; height: 700px; border: 0" srcdoc="{html.escape(probed)}"></iframe>'
    (folder / "framed.html").write_text(
        f'<meta charset="utf-8"/><meta name="color-scheme" content="light dark"/>{frame}<p id="said"></p><script>onload = () => '
        'document.getElementById("said").textContent = document.querySelector("iframe").contentDocument.title</script>',
        encoding="utf-8",
    )
    said = re.search(r'<p id="said">(.*?)</p>', dump(folder / "framed.html", dark))
    assert said is not None
    return Seen(errors, **json.loads(html.unescape(said[1])))


def dump(file: Path, dark: bool = False) -> str:
    """The document as Chromium has it after loading."""
    return _run(file, dark).stdout


def _run(file: Path, dark: bool) -> "subprocess.CompletedProcess[str]":
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={file.parent / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
