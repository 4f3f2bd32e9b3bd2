"""What the packages import is what pyproject asks for, and the other way round."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.doctor.packages import BESIDE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def canonical(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


ROOT = Path(__file__).parents[2]
OURS = {"taid_vlm", "taid_vlm_eval"}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
TOOLS = {"dev", "docs", "benchmark"}  # extras of a checkout: no user needs them
# Nothing of ours imports these; who does, or who starts them.
THROUGH = {
    "torchvision": "timm",
    "gguf": "transformers",
    "tensorboard": "accelerate",
    "wandb": "accelerate",
    "protobuf": "transformers",
    "pytest-xdist": "Makefile",
    "ruff": "Makefile",
    "mypy": "Makefile",
    "types-pyyaml": "mypy",
    "hatchling": "tests/packaging/test_wheel.py",
    "fastapi": "transformers",
    "uvicorn": "transformers",
    "starlette": "transformers",
    "openai": "transformers",
    "zensical": "tools/build_docs.py",
}
# What comes with a dependency in the release that fits it, and must not be chosen beside it.
BROUGHT = {"triton": "torch"}
BRINGS = {package: {canonical(one) for one in found} for package, found in packages_distributions().items()}


def names(requirements: list[str]) -> set[str]:
    """The distributions of a list of requirements."""
    return {canonical(re.split(r"[<>=!~;\[ ]", one)[0]) for one in requirements}


@cache
def imported(*folders: str) -> dict[str, list[str]]:
    """Top-level packages of others that Python files import, wherever they do so, with the files."""
    found: dict[str, list[str]] = {}
    for file in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for module in modules(ast.parse(file.read_text(encoding="utf-8"))):
            package = module.split(".")[0]
            if package not in sys.stdlib_module_names and package not in OURS:
                found.setdefault(package, []).append(str(file.relative_to(ROOT)))
    return found


def modules(tree: ast.AST) -> Iterator[str]:
    """What is named by ``import``, ``from``, ``find_spec`` and ``importorskip``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("find_spec", "pytest.importorskip"):
            yield from (one.value for one in node.args if isinstance(one, ast.Constant))


def distributions_of(package: str) -> set[str]:
    """Who brings an import name; of what is not installed, that it is called the same."""
    return BRINGS.get(package, {canonical(package)})


USED = imported("taid_vlm", "eval/taid_vlm_eval")


@pytest.mark.parametrize("package", sorted(USED))
def test_what_is_imported_is_declared(package: str) -> None:
    declared = names(DEPENDENCIES).union(*(names(asked) for extra, asked in EXTRAS.items() if extra not in TOOLS))
    known = declared | {canonical(name) for name in BESIDE}
    if package in BROUGHT:
        assert package in names(requires(BROUGHT[package]) or [])
    else:
        assert distributions_of(package) & known, f"{package}, imported by {USED[package]}, is in no list of pyproject"


@pytest.mark.parametrize("group", ["dependencies", *EXTRAS])
def test_what_is_declared_is_used(group: str) -> None:
    asked = names(DEPENDENCIES if group == "dependencies" else EXTRAS[group])
    packages = imported("tests", "tools", "benchmarks") if group in TOOLS else USED
    used = {one for package in {**packages, **USED} for one in distributions_of(package)}
    assert asked <= used | set(THROUGH)


def test_the_table_of_others_users_holds_nothing_old() -> None:
    declared = names(DEPENDENCIES).union(*map(names, EXTRAS.values()))
    direct = {one for package in USED for one in distributions_of(package)}
    assert set(THROUGH) <= declared - direct
    assert [user for user in THROUGH.values() if user not in declared and not (ROOT / user).is_file()] == []


def test_every_dependency_has_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("\ndependencies = [\n")[1].split("\n]")[0].splitlines()
    assert [line for line in lines if "  # " not in line] == []
