"""What a checkout offers beside the packages: make's targets, hooks before a commit, the citation."""

import re
import subprocess
from pathlib import Path

import yaml

import taid_vlm

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def test_make_alone_lists_its_targets() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^make (\w+) +\S", told, re.MULTILINE) == phony[1].split()


def test_hooks_run_what_make_lint_runs() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lint is not None
    commands = [line.strip().replace("$(BIN)/", ".venv/bin/") for line in lint[1].splitlines()]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == commands
    # A hook that is handed the files of a commit would miss what they break elsewhere.
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in local["hooks"])


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert (cited["title"], cited["version"]) == ("taid-vlm", taid_vlm.__version__)
    (paper,) = cited["references"]
    assert "arXiv:2501.16937" in [one["value"] for one in paper["identifiers"]]
    assert [author["family-names"] for author in paper["authors"]] == ["Shing", "Misaki", "Bao", "Yokoi", "Akiba"]
