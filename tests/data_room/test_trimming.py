"""A sample that is too long loses whole turns at its end, with their pictures, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.data import BadSampleError, Pairer, Record
from taid_vlm.data.screening import Screening
from tests.data_room.test_pairing import TILED, WORDS, interleaved, processor, turns


def length_of(record: Record) -> int:
    return len(processor("smollm2", 7).render(record.messages).ids)


@settings(max_examples=60, deadline=None)
@given(answers=st.lists(WORDS.map(lambda words: words + "."), min_size=1, max_size=5), room=st.integers(0, 700))
def test_trimming_takes_whole_turns_from_the_end(answers: list[str], room: int) -> None:
    record = turns(*answers)
    pairer = Pairer(processor("chatml", 3), processor("smollm2", 7), room, "trim")
    fitting = [n for n in range(1, len(answers) + 1) if length_of(turns(*answers[:n])) <= room]
    if not fitting:
        with pytest.raises(BadSampleError, match=f"max_length is {room}, even with its first answer alone") as told:
            pairer.pair(record)
        assert (told.value.reason, pairer.trimmed) == ("too long", 0)
        return
    shorter, pair = pairer.fit(record)
    kept = turns(*answers[: fitting[-1]])
    assert (shorter.messages, shorter.images) == (kept.messages, kept.images)
    assert pair.images == kept.images
    assert pair == Pairer(pairer.student, pairer.teacher, 4096).pair(kept)
    assert pairer.trimmed == (len(kept.images) < len(answers))
    assert bool(pairer.notes()) == (pairer.trimmed > 0)
    assert pairer.pair(shorter) == pair  # nothing is left to trim


def test_trimming_keeps_the_system_prompt_and_drops_an_open_question() -> None:
    system = {"role": "system", "content": "be brief"}
    asked = turns("a cat", "a dog")
    record = Record("sample-9", [system, *asked.messages, asked.messages[0]], (*asked.images, Path("2.png")))
    made = processor("chatml", 3)
    length = len(made.render(record.messages).ids)
    shorter, _ = Pairer(made, None, length - 1, "trim").fit(record)
    assert shorter.messages == [system, *asked.messages]
    assert shorter.images == asked.images


def test_without_trimming_nothing_is_cut() -> None:
    pairer = Pairer(processor("chatml", 3), None, 60)
    with pytest.raises(BadSampleError, match=r"the limit data\.max_length is 60$"):
        pairer.pair(turns("a cat", "a dog"))
    assert pairer.trimmed == 0


def test_trimmed_pictures_are_sized_in_order(tmp_path: Path) -> None:
    record, tiled = interleaved(tmp_path), processor("chatml", 3, TILED)
    whole = Pairer(tiled, None, 4096).pair(record)
    shorter, pair = Pairer(tiled, None, len(whole.student.ids) - 1, "trim").fit(record)
    assert shorter.images == record.images[:2]
    tiles = [tiled.tiles_per_image(size) for size in ((16, 8), (8, 8))]
    assert pair.student.ids.count(tiled.image_token_id or 0) == 3 * sum(tiles)
    assert whole.student.ids[: len(pair.student.ids)] == pair.student.ids


def test_what_is_used_later_is_the_trimmed_record() -> None:
    whole, short = turns("a cat", "a dog " * 40), turns("a bird")
    screening = Screening(Pairer(processor("chatml", 3), None, 120, "trim"), skip_bad=False)
    found = [record for record, _ in screening.usable([whole, short])]
    assert [record.messages for record in found] == [turns("a cat").messages, short.messages]
    assert (screening.pairer.trimmed, screening.bad) == (1, [])


def test_samples_that_do_not_fit_are_counted_as_bad() -> None:
    screening = Screening(Pairer(processor("chatml", 3), None, 40, "trim"), skip_bad=True)
    assert list(screening.usable([turns("a cat " * 40, "a dog")])) == []
    assert (screening.pairer.trimmed, len(screening.bad)) == (0, 1)
