"""Lists on disk and places by digest, beside plain lists and dictionaries."""

import random

import numpy as np
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.marks import Places, marks_of, numbered


@pytest.mark.parametrize("seed", range(3))
def test_a_spool_is_a_list(seed: int) -> None:
    draw, plain, spool = random.Random(seed), list[str](), Spool[str]()
    for _ in range(400):
        entry = "é" * draw.choice([0, 1, 30, 3000, 70_000])
        plain.append(entry + str(len(plain)))
        spool.append(plain[-1])
        if draw.random() < 0.05:  # reading in between
            place = draw.randrange(-len(plain), len(plain))
            assert spool[place] == plain[place]
    assert len(spool) == len(plain)
    assert list(spool) == plain
    assert spool[3:200:7] == plain[3:200:7]
    for place in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            spool[place]


def test_an_entry_is_a_copy() -> None:
    spool = Spool([{"a": 1}])
    spool[0]["a"] = 2
    assert spool[0] == {"a": 1}


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool[str]()

    class Full:
        def write(self, raw: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_file", Full())
    with pytest.raises(UserError, match=r"no space left in .*TMPDIR"):
        spool.append("x" * 100_000)


@pytest.mark.parametrize("seed", range(3))
def test_places_are_those_of_a_dictionary(seed: int) -> None:
    draw = random.Random(seed)
    texts = [str(draw.randrange(1000)) for _ in range(500)] + ["\ud800", ""]
    first = dict[str, int]()
    repeated = [place for place, text in enumerate(texts) if first.setdefault(text, place) != place]
    places = Places(texts)
    assert len(places) == len(texts)
    assert {text: places.find(text) for text in texts} == first
    assert places.find("no such text") is None
    assert places.repeated == repeated[0]
    assert Places(["a", "b"]).repeated is None
    assert Places([]).find("a") is None


def test_numbers_are_in_the_order_of_first_coming() -> None:
    texts = [str(one) for one in np.random.default_rng(0).integers(0, 40, 300)]
    index = dict[str, int]()
    expected = [index.setdefault(text, len(index)) for text in texts]
    found, count = numbered(marks_of(texts))
    assert found.tolist() == expected
    assert count == len(index)
