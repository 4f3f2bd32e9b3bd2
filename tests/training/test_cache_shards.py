"""The files of a cache, without a model: what is written is read, whatever happens to the index, the order or the other writers."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.data.collate import pad_sides
from taid_vlm.data.pairing import Side
from taid_vlm.recipe.teacher_cache import TeacherCache as CacheSpec
from taid_vlm.training.cache import shards as shard_files
from taid_vlm.training.cache import store as stores
from taid_vlm.training.cache.forms import Form, HiddenStates, MostLikely
from taid_vlm.training.cache.index import Index
from taid_vlm.training.cache.shards import read_header, write_shard
from taid_vlm.training.cache.store import TeacherCache, rows_of_samples

WIDTH = 6
MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def key(name: str) -> str:
    return name.encode().hex().ljust(32, "0")


def cache_of(folder: Path, names: list[str], form: Form | None = None) -> TeacherCache:
    cache = TeacherCache(folder, form or HiddenStates("float32"), WIDTH)
    cache.keys = {name: key(name) for name in names}
    return cache


def samples(names: list[str], dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {n: {"hidden": torch.randn(i % 4, WIDTH, generator=generator).to(dtype)} for i, n in enumerate(names)}


@MANY
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=30),
    st.integers(1, 7),
    st.sampled_from(["float32", "bfloat16", "float16"]),
)
def test_take_is_its_plain_twin(tmp_path_factory: Any, order: list[int], per_shard: int, dtype: str) -> None:
    """A dictionary in memory says the same; samples may come twice, and lie in any shard or in none yet."""
    names = [f"s{i}" for i in range(16)]
    plain = samples(names, getattr(torch, dtype))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "SHARD_SAMPLES", per_shard)
        patch.setattr(shard_files, "OPEN", 2)
        cache = cache_of(tmp_path_factory.mktemp("cache"), names, HiddenStates(dtype))
        for name in names:
            cache.collect({name: plain[name]})
        asked = [names[i] for i in order]
        expected = torch.cat([torch.zeros(0, WIDTH), *(plain[name]["hidden"].float() for name in asked)])
        found = cache.take(asked)
        assert isinstance(found, Tensor)
        assert torch.equal(found, expected)
        assert found.dtype == torch.float32
        assert len(cache._reader._open) <= 2
        cache.flush()
        again = cache_of(cache.folder, names, HiddenStates(dtype))
        assert torch.equal(again.take(asked), expected)  # type: ignore[arg-type]
        assert again.missing() == []


def test_the_likeliest_tokens_come_back(tmp_path: Path) -> None:
    form = MostLikely(2, "uniform", "float16")
    cache = cache_of(tmp_path, ["a", "b"], form)
    cache.collect({"a": {"ids": torch.tensor([[5, 70_000]]).int(), "log_probs": torch.tensor([[-0.5, -2.0]]).half()}})
    cache.collect({"b": {"ids": torch.zeros(0, 2).int(), "log_probs": torch.zeros(0, 2).half()}})
    cache.flush()
    found = cache_of(tmp_path, ["a", "b"], form).take(["b", "a"])
    assert not isinstance(found, Tensor)
    assert found.ids.tolist() == [[5, 70_000]]
    assert found.log_probs.tolist() == [[-0.5, -2.0]]


@pytest.mark.parametrize(
    "harm", ["missing", "empty", "cut", "other format", "behind", "ahead", "no json object", "wrong bytes"]
)
def test_an_index_is_made_good_from_the_shards(tmp_path: Path, harm: str) -> None:
    shards = [
        write_shard(tmp_path, {key(n): v for n, v in samples([a, b], seed=s).items()})
        for s, (a, b) in enumerate(["ab", "cd"])
    ]
    whole = Index(tmp_path)
    whole.write()
    text = (tmp_path / "index.json").read_text()
    content = json.loads(text)
    assert {one["file"] for one in content["shards"].values()} == {path.name for path in tmp_path.glob("*.safetensors")}
    for one in content["shards"].values():
        assert one["rows"] == sum(one["samples"].values())
        assert one["bytes"] == (tmp_path / one["file"]).stat().st_size
    index = tmp_path / "index.json"
    if harm == "missing":
        index.unlink()
    elif harm == "ahead":  # a shard was deleted
        (tmp_path / shards[1].file).unlink()
    elif harm == "behind":  # killed between shard and index
        del content["shards"][shards[1].sha256]
        index.write_text(json.dumps(content))
    elif harm == "wrong bytes":  # the shard is whole
        content["shards"][shards[0].sha256]["bytes"] += 1
        index.write_text(json.dumps(content))
    else:
        index.write_text({"empty": "", "cut": text[:40], "other format": '{"format": 0}', "no json object": "[]"}[harm])
    found = Index(tmp_path)
    assert set(found.places) == {key(name) for name in ("ab" if harm == "ahead" else "abcd")}
    found.write()
    assert (index.read_text() == text) == (harm != "ahead")
    assert Index(tmp_path).shards == found.shards


def test_an_index_that_is_whole_needs_no_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path, {key(n): v for n, v in samples(["a", "b"]).items()})
    Index(tmp_path).write()
    monkeypatch.setattr("taid_vlm.training.cache.index.read_header", lambda file: pytest.fail(f"read {file}"))
    assert len(Index(tmp_path).places) == 2


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    """Each has its own view; what both have computed is there twice, and read as one of the two."""
    names = ["a", "b", "c"]
    first, second = cache_of(tmp_path, names), cache_of(tmp_path, names)
    one, two = samples(names, seed=1), samples(names, seed=2)
    first.collect({"b": one["b"]})
    second.collect({"b": two["b"], "c": two["c"]})
    first.flush()
    second.flush()
    second.index.write()
    first.index.write()
    later = cache_of(tmp_path, names)
    assert later.missing() == ["a"]
    known = {one["b"]["hidden"].numpy().tobytes(), two["b"]["hidden"].numpy().tobytes()}
    assert later.take(["b"]).numpy().tobytes() in known  # type: ignore[union-attr]
    assert len(json.loads((tmp_path / "index.json").read_text())["shards"]) == 2


def test_equal_content_is_one_file(tmp_path: Path) -> None:
    content = {key(n): v for n, v in samples(["a", "b"]).items()}
    assert (
        write_shard(tmp_path, content)
        == write_shard(tmp_path, content)
        == read_header(next(tmp_path.glob("*.safetensors")))
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_half_written_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / ".writing-x").write_bytes(b"half")
    (tmp_path / "notes.safetensors").write_bytes(b"somebody's")
    assert Index(tmp_path).shards == {}


def test_a_file_that_is_no_shard_is_named(tmp_path: Path) -> None:
    file = tmp_path / f"{'0' * 64}.safetensors"
    file.write_bytes(b"not a header")
    with pytest.raises(UserError, match=f"damaged: .*{file.name}.*delete the file"):
        Index(tmp_path)


def test_a_sample_that_could_not_be_computed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no states of sample a"):
        cache_of(tmp_path, ["a"]).take(["a"])


def test_a_state_too_large_for_float16_is_refused() -> None:
    with pytest.raises(UserError, match=r"7e\+04.*65504.*bfloat16"):
        HiddenStates("float16").encode(torch.tensor([[7e4]]), None)  # type: ignore[arg-type]


@MANY
@given(st.lists(st.tuples(st.integers(1, 6), st.sets(st.integers(0, 5))), min_size=1, max_size=8))
def test_rows_are_counted_by_sample(sides: list[tuple[int, set[int]]]) -> None:
    made = [Side(list(range(3, 3 + length)), sorted(row for row in rows if row < length)) for length, rows in sides]
    assert rows_of_samples(pad_sides(made, 0), len(made)) == [len(one.rows) for one in made]


def test_old_half_written_files_are_swept(tmp_path: Path) -> None:
    from taid_vlm.training.cache.fill import _sweep

    old, young = tmp_path / ".writing-old", tmp_path / ".writing-young"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 2 * shard_files.SHORT_LIVED,) * 2)
    _sweep(cache_of(tmp_path, []))
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"top_k": 4}, "top_k and tail"),
        ({"tail": "none"}, "top_k and tail"),
        ({"top_k": 4, "tail": "none", "dtype": "bfloat16"}, "third digit"),
    ],
)
def test_choices_that_do_not_fit(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CacheSpec.model_validate(content)
