"""Build the site strictly: ``python tools/build_docs.py``, or ``make docs``, which first installs the generator.

The pages of a checkout link across folders (``../eval/README.md``). They are therefore copied to ``build/docs/pages`` at the
places that they have here, so that every link which works in the checkout works on the site.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "docs"
CONFIG = "mkdocs.yml"
# Beside docs/. What a page links to and is no page (LICENSE, a folder of code) is written as code, not as a link.
ALSO = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "eval/README.md", "benchmarks/README.md")
SHOWN = {".md", ".html", ".png", ".svg"}
NEEDS = {
    "gpu": "NVIDIA GPUs",
    "hub": "the model hub",
    "index": "the package index",
    "time": "time, minutes to hours",
    "server": "a server",
    "vllm": "vLLM",
    "llama.cpp": "llama.cpp",
    "harness": "another harness, installed apart",
    "terminal": "a terminal",
    "yours": "files of your own",
}


def sources() -> list[Path]:
    """Files of the site, relative to the checkout."""
    inside = (path for path in (ROOT / "docs").rglob("*") if path.suffix in SHOWN)
    return sorted({path.relative_to(ROOT) for path in inside} | {Path(name) for name in ALSO})


def shown(text: str) -> str:
    """A page as the site has it: what a command needs, which the checkout keeps in a comment, is told above it."""

    def told(found: "re.Match[str]") -> str:
        return f"*Needs {' and '.join(NEEDS[name] for name in found[1].split())}:*\n"

    return re.sub(r"^<!-- needs: ([\w. ]+?) -->$", told, text, flags=re.MULTILINE)


def stage(build: Path = BUILD) -> None:
    """Lay pages and configuration out in a folder, and take away what was there before."""
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    shutil.copyfile(ROOT / CONFIG, build / CONFIG)
    for source in sources():
        target = build / "pages" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(shown((ROOT / source).read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, target)


def main() -> int:
    """Exit status of the generator; 1 where it warns."""
    stage()
    generator = Path(sys.executable).with_name("zensical")
    if not generator.is_file():
        print("the generator is an optional package: pip install 'taid-vlm[docs]'", file=sys.stderr)
        return 1
    return subprocess.run(
        [generator, "build", "--strict", "--config-file", BUILD / CONFIG], cwd=BUILD, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
