"""Pictures kept by key: each made once, and no more bytes than allowed."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from taid_vlm_eval.models.pictures import BatchPictures, Picture, PictureCache
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.shared_prefix import WORTHWHILE, find_beginnings


def picture(values: int) -> Picture:
    return Picture("", {"pixel_values": torch.zeros(values, dtype=torch.float32)})


def test_the_pictures_used_last_are_kept() -> None:
    cache, made = PictureCache(limit=3 * 400), []

    def get(key: str) -> Picture:
        return cache.get(key, lambda: made.append(key) or picture(100))  # type: ignore[func-returns-value]

    first = get("a")
    for key in ("b", "c", "a", "d"):
        get(key)
    assert made == ["a", "b", "c", "d"]
    assert get("a") is first  # used after b, which had to go
    get("b")
    assert made == ["a", "b", "c", "d", "b"]


def test_features_weigh_in_place_of_pixels() -> None:
    cache = PictureCache(limit=1000)
    several = [cache.get(key, lambda: picture(100)) for key in "ab"]
    for one in several:
        one.encoded({"pooler_output": [torch.zeros(200, dtype=torch.bfloat16)]})
    assert [one.bytes for one in several] == [400, 400]
    several[1].encoded({"pooler_output": torch.zeros(200, dtype=torch.float32)})
    cache.weigh(several[1])
    assert cache.get("b", lambda: pytest.fail("made again")) is several[1]
    assert cache.get("a", lambda: picture(1)) is not several[0]


class PlainCache:
    """What :class:`PictureCache` keeps, with every sum taken anew."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: list[tuple[int, Picture, int]] = []  # key, picture, what it weighed when somebody looked

    def get(self, key: int, make: Callable[[], Picture]) -> Picture:
        found = next((one for one in self.kept if one[0] == key), None)
        if found is not None:
            self.kept.remove(found)
        self.kept.append(found or (key, made := make(), made.bytes))
        self._forget()
        return self.kept[-1][1]

    def weigh(self, picture: Picture) -> None:
        self.kept = [(key, one, one.bytes if one is picture else weight) for key, one, weight in self.kept]
        self._forget()

    @property
    def held(self) -> int:
        return sum(weight for _, _, weight in self.kept)

    def _forget(self) -> None:
        while len(self.kept) > 1 and self.held > self.limit:
            del self.kept[0]


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12), st.booleans()), max_size=60)


@settings(deadline=None)
@given(STEPS, st.integers(0, 80))
def test_the_same_pictures_are_found_and_forgotten_as_with_sums_taken_anew(
    steps: list[tuple[int, int, bool]], limit: int
) -> None:
    made: list[list[tuple[int, int]]] = []  # (step, key), of either cache
    for cache in (PictureCache(limit), PlainCache(limit)):
        made.append(own := [])
        held = []
        for number, (key, values, encode) in enumerate(steps):

            def make(step: int = number, key: int = key, values: int = values, own: list[Any] = own) -> Picture:
                own.append((step, key))
                return picture(values)

            one = cache.get(key, make)
            if encode:
                one.encoded(torch.zeros(12 - values, dtype=torch.float32))
                cache.weigh(one)
            held.append(cache.held)
        own.extend((-1, weight) for weight in held)
    assert made[0] == made[1]


def test_pictures_that_were_forgotten_or_never_kept_weigh_nothing() -> None:
    cache = PictureCache(limit=500)
    first = cache.get("a", lambda: picture(100))
    cache.get("b", lambda: picture(100))
    for one in (first, picture(50)):
        one.encoded(torch.zeros(1000))
        cache.weigh(one)
    assert cache.held == 400


def test_in_a_batch_each_picture_is_made_once_by_key_or_by_itself() -> None:
    images = [Image.new("RGB", (2, 2)) for _ in range(2)]
    asked = [
        Request("", [images[0]], ("a",)),
        Request("", [images[1]], ("a",)),
        Request("", images),
        Request("", images[:1], max_tiles=2),
        Request("", images[:1]),
    ]
    for cache, expected in ((PictureCache(), 4), (None, 6)):
        batch = BatchPictures(cache)
        shown = [batch.get(one, place, lambda: picture(1)) for one in asked for place in range(len(one.images))]
        assert len(set(shown)) == expected


def test_one_that_is_too_large_alone_is_kept_until_the_next() -> None:
    cache = PictureCache(limit=10)
    large = cache.get("a", lambda: picture(100))
    assert cache.get("a", lambda: pytest.fail("made again")) is large
    cache.get("b", lambda: picture(1))
    assert cache.get("a", lambda: picture(100)) is not large


def test_threads_that_ask_at_once_get_one_picture_and_do_not_wait_for_others() -> None:
    cache, made, gate = PictureCache(), [], threading.Event()

    def slowly() -> Picture:
        made.append("a")
        gate.wait(5)
        return picture(1)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, "a", slowly) for _ in range(3)]
        time.sleep(0.05)
        assert cache.get("b", lambda: picture(2)).bytes == 8
        gate.set()
        assert len({id(one.result()) for one in waiting}) == 1
    assert made == ["a"]


def test_a_picture_that_fails_can_be_asked_for_again() -> None:
    cache = PictureCache()
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: picture(1 // 0))
    assert cache.get("a", lambda: picture(3)).bytes == 12


ROWS = st.lists(
    st.tuples(st.sampled_from("xy"), st.lists(st.integers(0, 1), min_size=2, max_size=6)), min_size=1, max_size=8
)


@given(ROWS, st.integers(1, 5))
def test_rows_share_a_beginning_only_with_equal_tokens_and_equal_pictures(
    rows: list[tuple[str, list[int]]], longest: int
) -> None:
    ids, keys = [row for _, row in rows], [key for key, _ in rows]
    ends = [min(longest, len(row) - 1) for row in ids]
    found = find_beginnings(ids, keys, ends)
    distinct = {(key, tuple(row[:end])) for key, row, end in zip(keys, ids, ends, strict=True)}
    saved = sum(ends) - sum(len(row) for _, row in distinct)
    assert (found is not None) == (saved >= WORTHWHILE * sum(map(len, ids)))
    if found is not None:
        assert len(found.rows) == len(distinct)
        for row, of in enumerate(found.of):
            first = found.rows[of]
            assert first <= row
            assert (keys[first], ids[first][: ends[first]]) == (keys[row], ids[row][: ends[row]])
