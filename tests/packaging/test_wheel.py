"""The wheel outside the checkout: it holds every file, the sdist makes the same one, and the commands run from it in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import taid_vlm

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Folders of the checkout, and where they are in the wheel.
SHIPPED = {"taid_vlm": "taid_vlm", "eval/taid_vlm_eval": "taid_vlm_eval", "recipes": "taid_vlm/recipes"}
OPENED = (  # one of each kind of file that the code opens
    "taid_vlm/common/page.css",
    "taid_vlm/report/run_page.html.jinja",
    "taid_vlm/models/templates/chatml.jinja",
    "taid_vlm/launch/configs/fsdp2.yaml",
    "taid_vlm/recipes/README.md",
    "taid_vlm/recipes/quickstart/teacher/model.safetensors",
    "taid_vlm/recipes/study/charts/teacher/student.json",
    "taid_vlm/py.typed",
    "taid_vlm_eval/py.typed",
    "taid_vlm_eval/tasks/easy_vqa.yaml",
    "taid_vlm_eval/protocols/families.yaml",
    "taid_vlm_eval/compare_page.css",
)
SHORT = [
    "training.steps=4",
    "training.warmup_steps=1",
    "evaluation.limit=8",
    "data.train=[{kind: easy_vqa, path: 'asset:easy-vqa', limit: 64}]",
]


def build(target: str, source: Path, folder: Path) -> Path:
    """Build ``wheel`` or ``sdist`` of a source tree with this environment's hatchling, which fetches nothing."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    """What is in a wheel, by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_packages_and_recipes_and_nothing_else(wheel: Path) -> None:
    wanted = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}": path.read_bytes()
        for folder, inside in SHIPPED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name: content for name, content in contents(wheel).items() if ".dist-info/" not in name}
    assert sorted(inside) == sorted(wanted)
    assert [name for name in wanted if inside[name] != wanted[name]] == []
    assert set(OPENED) <= set(inside)


def test_the_wheel_is_small(wheel: Path) -> None:
    """The two shipped teachers are nearly all of it."""
    teachers = sum(len(content) for name, content in contents(wheel).items() if name.endswith(".safetensors"))
    assert wheel.stat().st_size < teachers + 2**21


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(build("sdist", ROOT, tmp_path / "sdist"), tmp_path / "unpacked")
    (source,) = (tmp_path / "unpacked").iterdir()
    again, ours = contents(build("wheel", source, tmp_path / "again")), contents(wheel)
    assert sorted(again) == sorted(ours)
    assert [name for name in ours if again[name] != ours[name]] == []
    for name in ("tests/conftest.py", "docs/index.md", "tools/build_docs.py", "Makefile", "LICENSE", "CITATION.cff"):
        assert (source / name).is_file(), name


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, beside the packages of the environment of these tests."""

    home: Path

    def run(self, script: str, *arguments: str, cwd: Path) -> str:
        """What a script of the environment prints, started in a folder without any variable of Python's own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.home / "bin" / script), *arguments]
        done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel is installed by pip; what it needs is found in this environment through a path file.

    Path files inside a folder that is found so are not read, so the editable install of the checkout stays hidden.
    """
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, symlinks=True)
    made = Installed(home)
    packages = made.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    Path(packages, "environment.pth").write_text("".join(f"{path}\n" for path in here))
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index", "--ignore-installed")
    made.run("python", *pip, str(wheel), cwd=home)
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


WHERE = """
import json, taid_vlm, taid_vlm_eval
from importlib.metadata import distribution, entry_points
from taid_vlm.common.paths import recipes_folder

ours = distribution("taid-vlm")
print(json.dumps({
    "folders": [taid_vlm.__file__, taid_vlm_eval.__file__, str(recipes_folder()), str(ours.locate_file(""))],
    "version": ours.version,
    "licence": ours.metadata["License-Expression"],
    "scripts": [e.value for e in entry_points(group="console_scripts", name="taid-vlm")],
    "lmms": [e.load().__name__ for e in entry_points(group="lmms_eval.models", name="taid_vlm")],
}))
"""


def test_what_is_imported_is_the_wheel(installed: Installed, elsewhere: Path) -> None:
    found = json.loads(installed.run("python", "-c", WHERE, cwd=elsewhere))
    assert all(Path(folder).is_relative_to(installed.home) for folder in found["folders"]), found["folders"]
    assert found["version"] == taid_vlm.__version__
    assert found["licence"] == "Apache-2.0"
    assert found["scripts"] == ["taid_vlm.cli:main"]
    assert found["lmms"] == ["manifest"]


def test_commands_that_need_no_weights(installed: Installed, elsewhere: Path, language_model: Path) -> None:
    assert installed.run("taid-vlm", "--version", cwd=elsewhere).strip() == taid_vlm.__version__
    found = json.loads(installed.run("taid-vlm", "doctor", "--offline", "--json", cwd=elsewhere))
    assert found["version"] == taid_vlm.__version__
    assert {package["name"] for package in found["needed"]} >= {"torch", "transformers"}
    installed.run("taid-vlm", "recipes", "cp", "quickstart/taid", "taid.yaml", cwd=elsewhere)
    tasks = sorted(path.stem for path in (ROOT / "eval" / "taid_vlm_eval" / "tasks").glob("*.yaml"))
    assert sorted(installed.run("taid-vlm", "eval", "--list-tasks", cwd=elsewhere).split()) == tasks
    assert sorted(installed.run("python", "-m", "taid_vlm_eval", "--list-tasks", cwd=elsewhere).split()) == tasks
    (elsewhere / "notes.txt").write_text("the shape is red\n\n" * 32)
    model = ("--teacher", str(language_model), "--student", str(language_model))
    installed.run("taid-vlm", "new", "--text", *model, "--data", "notes.txt", "--gpus", "0", cwd=elsewhere)
    plan = json.loads(installed.run("taid-vlm", "plan", "recipe.yaml", "--json", cwd=elsewhere))
    assert {part["name"] for part in plan["parts"]} == {"language_model", "teacher"}
    installed.run("taid-vlm", "analyze", "regression", "--rounds", "4", "--output", "rounds.html", cwd=elsewhere)
    assert "<style>" in (elsewhere / "rounds.html").read_text()


@pytest.mark.assets
def test_the_quickstart_and_what_looks_at_it(installed: Installed, elsewhere: Path) -> None:
    assert installed.run("taid-vlm", "plan", "quickstart/taid", "--json", cwd=elsewhere)
    table = json.loads(
        (elsewhere / installed.run("taid-vlm", "quickstart", "--quiet", *SHORT, cwd=elsewhere).strip()).read_text()
    )
    assert [row["name"] for row in table] == ["teacher", "sft", "kl", "taid"]
    runs = json.loads(installed.run("taid-vlm", "runs", "--json", cwd=elsewhere))
    assert len(runs) == 3
    installed.run("taid-vlm", "report", "runs/quickstart/taid", cwd=elsewhere)
    assert "<style>" in (elsewhere / "runs" / "quickstart" / "taid" / "report.html").read_text()
    assert installed.run("taid-vlm", "export", "runs/quickstart/taid", "--quiet", cwd=elsewhere).strip()
    student = ("runs/quickstart/taid/student", "--tasks", "easy_vqa", "--limit", "4", "--quiet", "--json")
    (result,) = json.loads(installed.run("taid-vlm", "eval", *student, cwd=elsewhere))
    assert result["n"] == 4
