"""The packages of docs/plug-ins.md, as files."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "plug-ins.md").read_text()
PACKAGES = ("strided", "gated", "chernoff")


def files_of_the_page() -> dict[str, str]:
    """Content by path, such as ``gated/pyproject.toml``."""
    return dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))


def write_packages(folder: Path) -> list[Path]:
    """The three packages as folders that pip can install."""
    for name, content in files_of_the_page().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return [folder / package for package in PACKAGES]


def write_distribution(folder: Path, package: str, entries: dict[str, dict[str, str]], **modules: str) -> None:
    """As pip leaves an installed package: metadata with entry points by group, and modules by name."""
    about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [
        line for group, found in entries.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for name, content in modules.items():
        (folder / f"{name}.py").write_text(content)
