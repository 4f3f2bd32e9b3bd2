"""The packages of docs/plug-ins.md are installed by pip and used: plan, two steps, the saved student, its export in a fresh process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.recipe import dump_recipe
from tests.plug_ins.page import PACKAGES, PAGE, files_of_the_page, write_packages
from tests.tiny.recipes import distil, tiny_recipe

# One process that knows the packages, for each start takes seconds.
DAY = """
import json, sys
from pathlib import Path
from taid_vlm import export, load_recipe, load_student, plan, train

assert not any(name.startswith("taid_vlm_") for name in sys.modules), "imported without being named"
made = plan(load_recipe("recipe.yaml"), samples=4).to_json()
student = train(load_recipe("recipe.yaml"), "run")
train(load_recipe("taid.yaml"), "run-taid")
loaded = load_student(student)
folder = export("run")
print(json.dumps({
    "plan": made["export"]["target"] if "export" in made else "",
    "encoder": type(loaded.student.vision_encoder.backbone).__name__,
    "projector": type(loaded.student.projector).__module__,
    "export": sorted(path.name for path in folder.iterdir()),
}))
"""


def pip_install(target: Path, packages: list[Path]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), *map(str, packages)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(code: str, folder: Path, *paths: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def recipe_of_the_page(language_model: Path, easy_vqa: Path, teacher: Path) -> dict[str, Any]:
    """The tiny recipe, with what the page's says in place of its own."""
    base = yaml.safe_load(dump_recipe(distil(language_model, easy_vqa, teacher, cache=False)))
    (told,) = (yaml.safe_load(text) for text in files_in_yaml())
    base["student"] |= {key: told["student"][key] for key in ("vision_encoder", "projector")}
    base["student"]["train"]["vision_encoder"] |= told["student"]["train"]["vision_encoder"]
    base["data"]["cache_image_features"] = False
    base["training"] |= {"steps": 2, "checkpoint_every": 1, "trackers": []}
    return base | {"loss": told["loss"]}


def files_in_yaml() -> list[str]:
    return [block.split("```")[0] for block in PAGE.split("```yaml\n")[1:]]


def test_each_package_is_below_forty_lines() -> None:
    files = files_of_the_page()
    assert {name.split("/")[0] for name in files} == set(PACKAGES)
    for package in PACKAGES:
        assert sum(len(text.splitlines()) for name, text in files.items() if name.startswith(f"{package}/")) < 40


@pytest.mark.slow
def test_installed_by_pip_they_plan_train_reload_and_export(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    from taid_vlm.training import train

    settings = {"steps": 1, "batch_size": 2, "lr": 1e-3, "precision": "fp32", "trackers": []}
    teacher = train(tiny_recipe(language_model, easy_vqa, training=settings), tmp_path / "teacher")
    pip_install(tmp_path / "site", write_packages(tmp_path / "sources"))
    recipe = recipe_of_the_page(language_model, easy_vqa, teacher)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    taid = recipe | {"loss": {"name": "taid", "divergence": "chernoff"}}
    (tmp_path / "taid.yaml").write_text(yaml.safe_dump(taid))
    told = json.loads(run(DAY, tmp_path, tmp_path / "site").splitlines()[-1])
    assert told["encoder"] == "Sequential"
    assert told["projector"] == "taid_vlm_gated"
    assert "modeling_taid_vlm.py" in told["export"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    kd = [row["kd"] for row in rows if "kd" in row]
    assert len(kd) == 2
    assert all(0 < value < 1 for value in kd)
    versions = json.loads((tmp_path / "run" / "run.json").read_text())["versions"]
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    for package in PACKAGES:
        assert versions[f"taid-vlm-{package}"] == "1.0"
    for package in ("strided", "gated"):
        assert f"`taid-vlm-{package}`, here 1.0" in card
    # Without the packages the student says what is missing.
    code = "from taid_vlm import load_student; load_student('run/student')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "unknown vision encoder library 'strided'" in done.stderr
    assert "docs/plug-ins.md" in done.stderr
