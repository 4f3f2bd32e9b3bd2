"""A cache that is killed on the way, filled by two runs at once, or by two processes of one run, is that of one quiet process."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training.cache.index import Index
from tests.tiny.language_model import save_tiny_llama
from tests.training.cache_cases import language_recipe, set_up, taken

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path, language_model: Path) -> Recipe:
    return language_recipe(language_model, save_tiny_llama(tmp_path / "teacher", seed=3))


def run(recipe: Recipe, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a cache of its own, ``folder / cache``."""
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    environment = {**os.environ, "TAID_VLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def worker(recipe: Recipe, folder: Path, mode: str) -> list[int]:
    done = run(recipe, folder, "-m", "tests.training.cache_worker", str(folder / "recipe.yaml"), mode)
    statuses: list[int] = json.loads(done.stdout.splitlines()[-1])
    return statuses


def states(
    recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int = 32
) -> tuple[torch.Tensor, Index]:
    """What is read from a cache; what is not there, this process would compute, with another number of threads and so other bits."""
    monkeypatch.setenv("TAID_VLM_CACHE", str(folder / "cache"))
    monkeypatch.setattr("taid_vlm.training.cache.fill.BATCH", batch)
    setup = set_up(recipe)
    assert setup.cache is not None
    return taken(setup), Index(setup.cache.folder)


def computed_once(index: Index) -> bool:
    return set(Counter(key for shard in index.shards.values() for key in shard.rows).values()) == {1}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, quiet = tmp_path / "killed", tmp_path / "quiet"
    folder.mkdir()
    quiet.mkdir()
    statuses = worker(recipe, folder, "kill")
    assert statuses[:4] == [-signal.SIGKILL] * 4
    assert statuses[-1] == 0
    written = list((folder / "cache").rglob("index.json"))
    assert len(written) == 1
    assert worker(recipe, quiet, "quiet") == [0]
    found, index = states(recipe, folder, monkeypatch, batch=2)
    truth, _ = states(recipe, quiet, monkeypatch, batch=2)
    assert torch.equal(found, truth)
    assert computed_once(index)
    assert len(index.places) == 20


@pytest.mark.slow
def test_two_runs_that_fill_one_cache_at_once_do_not_spoil_it(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, quiet = tmp_path / "both", tmp_path / "quiet"
    folder.mkdir()
    quiet.mkdir()
    assert worker(recipe, folder, "both") == [0, 0]
    found, index = states(recipe, folder, monkeypatch, batch=2)
    truth, _ = states(recipe, quiet, monkeypatch, batch=2)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5)
    assert len(index.places) == 20


@pytest.mark.slow
def test_the_command_on_two_processes(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taid_vlm.training.cache.fill.BATCH", 32)
    content = recipe.model_dump()
    words = [f"{{'role': 'user', 'content': 'n {n}'}}" for n in range(70)]  # three batches
    lines = [
        {
            "messages": [
                {"role": "user", "content": word},
                {"role": "assistant", "content": "so " * (n % 7) + f"it is {n}"},
            ]
        }
        for n, word in enumerate(words)
    ]
    data = tmp_path / "more.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content["data"]["train"][0]["path"] = str(data)
    recipe = Recipe.model_validate(content)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "taid_vlm")
    told = run(recipe, two, *launcher, "cache", str(two / "recipe.yaml"), "training.precision=fp32").stdout
    assert "teacher cache: 70 samples" in told
    assert "computed now: 70 samples" in told
    assert told.count("teacher cache:") == 1
    run(recipe, one, "-m", "taid_vlm", "cache", str(one / "recipe.yaml"), "training.precision=fp32")
    found, index = states(recipe, two, monkeypatch)
    truth, alone = states(recipe, one, monkeypatch)
    assert torch.equal(found, truth)  # also the batches are the same
    assert computed_once(index)
    assert len(index.shards) == 2
    assert len(alone.shards) == 1
    again = run(recipe, two, "-m", "taid_vlm", "cache", str(two / "recipe.yaml"), "training.precision=fp32").stdout
    assert "teacher cache: 70 samples" in again
    assert "computed now" not in again
    shown = run(recipe, two, "-m", "taid_vlm", "cache", str(two / "recipe.yaml"), "--measure").stdout
    assert "hidden states in bfloat16" in shown
    assert "top 128 log-probabilities in float16, none" in shown
