"""Whatever stands in a data file, good records are kept, broken ones are counted by their reason, and nothing crashes."""

import base64
import json
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Pairer, open_image, read_records
from taid_vlm.data.pictures import Picture
from taid_vlm.data.screening import Screening
from taid_vlm.data.sources.conversation import Format, records_of
from taid_vlm.data.sources.kinds import MESSAGES
from taid_vlm.data.sources.layout import layout_of
from taid_vlm.data.sources.rows import Row
from taid_vlm.data.sources.turns import pairs_of
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.data_spec import DataSource
from tests.data_room.judging import judged
from tests.tiny.language_model import tiny_tokenizer

BROKEN, GOOD = 10_000, 1_000
IMAGE = {"type": "image"}
MEGABYTE = "x" * 2**20


def processor() -> Processor:
    """One that looks at every picture's header, for its tokens depend on the size."""
    spec = ImagesSpec(tiling="dynamic", style="internvl", max_tiles=2)
    image = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    return Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<empty_output>", 2, image, spec))


def bomb() -> bytes:
    """A few kilobytes that would be half a gigabyte."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    packed = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    pixels = zlib.compress(bytes(7501) * 1000)
    packed += struct.pack(">I", len(pixels)) + b"IDAT" + pixels + struct.pack(">I", zlib.crc32(b"IDAT" + pixels))
    return b"\x89PNG\r\n\x1a\n" + packed


BOMB = base64.b64encode(bomb()).decode()


def talk(question: Any = "What?", answer: Any = "Red.", images: Any = None) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns} if images is None else {"messages": turns, "images": images}


def looking(*images: Any, places: int = 1, answer: Any = "Red.") -> dict[str, Any]:
    return talk([*[IMAGE] * places, {"type": "text", "text": "What?"}], answer, list(images))


def holding(*parts: Any) -> dict[str, Any]:
    """A question whose pictures stand in its parts."""
    return talk([*parts, {"type": "text", "text": "What?"}])


def changed(**changes: Any) -> dict[str, Any]:
    """A conversation whose second message is another."""
    first, second = talk()["messages"]
    return {"messages": [first, {**second, **changes}]}


def without(key: str) -> dict[str, Any]:
    first, second = talk()["messages"]
    return {"messages": [first, {k: v for k, v in second.items() if k != key}]}


# Each makes a row from a number, so that no two are alike.
WAYS: dict[str, list[Callable[[int], Any]]] = {
    "unreadable row": [
        lambda n: json.dumps(talk(f"cut {n}"))[:-1],
        lambda n: f"{n}",
        lambda n: [n],
        lambda n: b'{"messages": "\xff%d"}' % n,
        lambda n: '{"messages": [{"role": NULL}]}',
    ],
    "missing column": [
        lambda n: {"id": n},
        lambda n: {"mesages": talk()["messages"], "id": n},
        lambda n: {**talk(), "image": "good.png", "id": n},
    ],
    "wrong type": [
        lambda n: {"messages": n},
        lambda n: {"messages": {"role": n}},
        lambda n: {"messages": [n]},
        lambda n: changed(content=n),
        lambda n: changed(content={"text": n}),
        lambda n: talk([{"type": "video", "n": n}]),
        lambda n: talk([None, n]),
        lambda n: holding({"type": "image_url", "n": n}),
        lambda n: holding({"type": "image", "image": n}),
        lambda n: talk(images=n + 1),
        lambda n: looking(n),
        lambda n: looking(None),
        lambda n: looking({"path": None, "bytes": None}),
        lambda n: looking(f"a\0{n}.png"),
    ],
    "wrong roles": [
        lambda n: changed(role=f"tool{n}"),
        lambda n: changed(role=n),
        lambda n: changed(role="system"),
        lambda n: changed(role="Assistant"),
        lambda n: without("role"),
        lambda n: without("content"),
        lambda n: changed(content=[IMAGE]),
        lambda n: changed(content=[{"type": "image", "image": "good.png"}]),
        lambda n: changed(tool_calls=[{"id": n}]),
    ],
    "broken text": [
        lambda n: talk(f"a\0{n}"),
        lambda n: talk(answer=f"{n}\0"),
        lambda n: talk(f"half a letter \ud800 {n}"),
    ],
    "no answer": [
        lambda n: talk(answer=""),
        lambda n: talk(answer=" \n" * (n % 5 + 1)),
        lambda n: talk(answer=None),
        lambda n: {"messages": []},
        lambda n: {"messages": talk()["messages"][:1]},
    ],
    "image count": [
        lambda n: looking(places=1),
        lambda n: looking("good.png", places=2),
        lambda n: looking("good.png", "good.png", places=1),
        lambda n: {**holding({"type": "image", "image": "good.png"}), "images": ["good.png"]},
        lambda n: holding({"type": "image", "image": "good.png"}, IMAGE),
        lambda n: talk("no place", images=["good.png"]),
    ],
    "picture by URL": [
        lambda n: looking(f"https://example.org/{n}.png"),
        lambda n: holding({"type": "image", "url": f"https://example.org/{n}.png"}),
        lambda n: holding({"type": "image_url", "image_url": {"url": f"https://example.org/{n}.png"}}),
    ],
    "picture not found": [lambda n: looking(f"gone{n}.png"), lambda n: looking("good.png", f"gone{n}.png", places=2)],
    "broken picture": [
        lambda n: looking("empty.png"),
        lambda n: looking("page.png"),
        lambda n: looking("cut.png"),
        lambda n: looking("cut.jpg"),
        lambda n: looking("folder"),
        lambda n: looking("data:image/png;base64,AAAA"),
        lambda n: looking(f"data:image/png;base64,{n}!"),
        lambda n: looking(f"data:{n}"),
        lambda n: holding({"type": "image", "base64": "AAAA"}),
        lambda n: looking("n" * 5000 + ".png"),
    ],
    "picture too large": [
        lambda n: looking("bomb.png"),
        lambda n: looking("good.png", "bomb.png", places=2),
        lambda n: looking(f"data:image/png;base64,{BOMB}"),
    ],
    "too long": [lambda n: talk("long " * 200 + str(n)), lambda n: looking(*["good.png"] * 60, places=60)],
}
# Rows of a megabyte are slow to read, so there are few of them.
LARGE: list[tuple[str, Any]] = [
    ("too long", talk(MEGABYTE)),
    ("wrong roles", changed(role=MEGABYTE)),
    ("broken picture", looking(MEGABYTE)),
    ("missing column", {MEGABYTE: 1}),
    ("wrong type", {"messages": MEGABYTE}),
    ("broken text", talk(MEGABYTE + "\0")),
    ("unreadable row", "[" * 2**20),
    ("no answer", talk(answer=" " * 2**20)),
]


def write_pictures(folder: Path) -> None:
    noise = Image.effect_noise((40, 40), 90).convert("RGB")
    for name in ("good.png", "cut.png", "cut.jpg"):
        noise.save(folder / name)
    for name in ("cut.png", "cut.jpg"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 2 // 3])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.png").write_text("<html>not found</html>")
    (folder / "folder").mkdir()
    (folder / "bomb.png").write_bytes(base64.b64decode(BOMB))


def line(row: Any) -> bytes:
    return row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()


def opened(pictures: Iterable[Picture]) -> None:
    for picture in pictures:
        open_image(picture)


def test_ten_thousand_broken_records_lose_no_good_one(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    draw = random.Random(7)
    ways = [(reason, make) for reason, some in WAYS.items() for make in some]
    broken = LARGE + [(reason, make(n)) for n in range(BROKEN - len(LARGE)) for reason, make in [ways[n % len(ways)]]]
    good = [looking("good.png", answer=f"good {n}") if n % 3 else talk(answer=f"good {n}") for n in range(GOOD)]
    rows = [line(row) for _, row in broken] + [line(row) for row in good]
    draw.shuffle(rows)
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(rows))

    records = read_records([DataSource(kind="jsonl", path=str(tmp_path / "x.jsonl"))], seed=0)
    assert len(records) == BROKEN + GOOD
    screening = Screening(Pairer(processor(), None, 512), skip_bad=True)
    counted, kept = Counter(), []
    for record, pair in screening.usable(records):
        try:
            opened(pair.images)
            kept.append(record)
        except BadSampleError as error:  # broken behind its header
            counted[error.reason] += 1
    counted += screening.by_reason
    assert counted == Counter(reason for reason, _ in broken)
    assert counted.total() == BROKEN
    assert {record.messages[1]["content"] for record in kept} == {f"good {n}" for n in range(GOOD)}
    assert len(kept) == GOOD
    assert max(map(len, screening.bad)) < 10_000
    assert screening.table().count("\n") == len(screening.by_reason) - 1


@pytest.mark.parametrize("reason", WAYS)
def test_a_run_that_refuses_stops_with_the_place(tmp_path: Path, reason: str) -> None:
    write_pictures(tmp_path)
    for make in WAYS[reason]:
        (tmp_path / "x.jsonl").write_bytes(line(talk()) + b"\n" + line(make(1)))
        records = read_records([DataSource(kind="jsonl", path=str(tmp_path / "x.jsonl"))], seed=0)
        screening = Screening(Pairer(processor(), None, 512), skip_bad=False)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))) as told:
            opened([picture for _, pair in screening.usable(records) for picture in pair.images])
        if isinstance(told.value, BadSampleError):  # a picture that is broken behind its header
            assert told.value.reason == reason
        else:
            assert "on_bad_sample: skip" in str(told.value)
            assert screening.by_reason == {reason: 1}


PROCESSOR = processor()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text", "user", "assistant", "bytes", "path"])
            | st.text(max_size=3),
            inner | st.sampled_from(["user", "assistant", "system", "image", "text", "gpt", "human"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "images", "id"]), ANYTHING), st.sampled_from([None, "<image>"]))
def test_any_row_is_a_record_that_can_be_judged(cells: dict[str, Any], mark: str | None) -> None:
    layout = layout_of(DataSource(kind="jsonl", path="x"), MESSAGES)
    for form in (Format(mark=mark), Format(turns=pairs_of, first=True)):
        (record,) = records_of([Row("here", cells, Path("folder"))], layout, form)
        problem = judged(record)
        if problem is None:
            PROCESSOR.render(record.messages, sizes=[(4, 4)] * len(record.images))
        else:
            assert problem.reason != "other"
            assert "here" in str(problem)
