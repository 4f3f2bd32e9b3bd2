"""Head and tail mass: those of the logits themselves, and those that validation in training measures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from taid_vlm.analysis.mass import mass
from taid_vlm.analysis.masses import Measured, _of_rows, beside, intervals
from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.losses import head_and_tail_mass
from taid_vlm.training import train
from tests.tiny.recipes import distil


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path, saved_teacher: Path
) -> list[Path]:
    """Two short runs whose validation took the masses at every row."""
    folder = tmp_path_factory.mktemp("masses")
    for name in ("taid", "kl"):
        train(distil(language_model, easy_vqa, saved_teacher, loss={"name": name, "mass_rows": 10**6}), folder / name)
    return [folder / "taid", folder / "kl"]


@pytest.mark.slow
def test_the_figures_are_those_of_validation(runs: list[Path], saved_teacher: Path) -> None:
    found = mass([*map(str, runs), str(saved_teacher)], samples=1000)
    models = found.figures["models"]
    for run in runs:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        held = next(row for row in reversed(rows) if "validation_head_mass" in row)
        mine = models[str(run)]
        for name, figure in (("head", "head_mass"), ("tail", "tail_mass"), ("entropy", "student_entropy")):
            assert mine[name] == pytest.approx(held[f"validation_{figure}"], rel=2e-4), name
        assert models["teacher"]["entropy"] == pytest.approx(held["validation_teacher_entropy"], rel=2e-4)
    # The teacher as a checkpoint is the teacher of the recipe.
    again = models[str(saved_teacher)]
    assert again["head"] == models["teacher"]["head"]
    assert again["beside_the_teacher"]["tail"] == (1.0, 1.0, 1.0)
    assert models["teacher"]["beside_the_teacher"] is None


@pytest.mark.slow
def test_the_command_with_a_recipe_and_fewer_samples(runs: list[Path], tmp_path: Path) -> None:
    arguments = [
        "analyze",
        "mass",
        str(runs[0] / "student"),
        "--recipe",
        str(runs[0] / "recipe.yaml"),
        "--samples",
        "3",
    ]
    done = CliRunner().invoke(app, [*arguments, "--json", "--output", str(tmp_path / "mass.svg")])
    assert done.exit_code == 0, done.exception
    models = json.loads(done.stdout)["models"]
    assert [one["samples"] for one in models.values()] == [3, 3]
    assert "Probability by rank" in (tmp_path / "mass.svg").read_text()


def test_without_a_recipe_or_a_student_it_says_what_is_missing(tmp_path: Path, language_model: Path) -> None:
    with pytest.raises(UserError, match="--recipe NAME"):
        mass([str(language_model)])
    (tmp_path / "recipe.yaml").write_text("base: quickstart/taid\n")
    with pytest.raises(UserError, match="recipe"):
        mass([str(tmp_path)])


def test_masses_are_sums_of_the_ranked_probabilities() -> None:
    logits_RV = 3 * torch.randn(7, 101, generator=torch.Generator().manual_seed(0))
    figures_R3, sorted_V = _of_rows(logits_RV)
    head_R, tail_R = head_and_tail_mass(logits_RV)
    assert torch.allclose(figures_R3[:, 0], head_R.double())
    assert torch.allclose(figures_R3[:, 1], tail_R.double())
    assert float(sorted_V[:10].sum()) == pytest.approx(float(head_R.sum()), rel=1e-5)
    assert float(sorted_V[-20:].sum()) == pytest.approx(float(tail_R.sum()), rel=1e-5)
    p_RV = logits_RV.softmax(-1)
    assert torch.allclose(figures_R3[:, 2], -(p_RV * p_RV.log()).sum(-1).double(), rtol=1e-5)
    ruled_out = torch.full((1, 30), -torch.inf)
    ruled_out[0, :2] = 0.0
    assert float(_of_rows(ruled_out)[0][0, 2]) == pytest.approx(np.log(2))


def measured(seed: int, lift: float = 0.0, ids: int = 40) -> Measured:
    draws = np.random.default_rng(0)
    tokens_S = draws.integers(1, 5, ids).astype(float)
    sums_3S = tokens_S * (0.5 + 0.1 * np.random.default_rng(seed).standard_normal((3, ids)) + lift)
    return Measured(tuple(map(str, range(ids))), tokens_S, sums_3S, np.ones(5) / 5)


def test_intervals_and_paired_differences() -> None:
    one, other = measured(1), measured(1, lift=0.2)
    low, high = intervals(one)["head"]
    assert low < one.means["head"] < high
    half = 1.96 * 0.1 / np.sqrt(40)
    assert high - low == pytest.approx(2 * half, rel=0.6)
    gaps = beside(other, one)
    assert gaps is not None
    # The same samples are drawn of both, so a constant difference has no spread at all.
    assert gaps["head"] == pytest.approx((0.2, 0.2, 0.2))
    assert gaps["tail"][0] == pytest.approx(other.means["tail"] / one.means["tail"])
    assert beside(measured(1, ids=39), one) is None
