"""The shared part of two vocabularies ends at the first id that means something else."""

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.models.vocabulary import shared_vocabulary
from tests.tiny.language_model import tiny_tokenizer

SIZE = len(tiny_tokenizer())


class Renamed:
    """The tiny tokenizer with one id that means something else, or means nothing."""

    def __init__(self, index: int, name: str | None) -> None:
        self.vocabulary = {t: i for t, i in tiny_tokenizer().get_vocab().items() if i != index}
        if name is not None:
            self.vocabulary[name] = index

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


def test_equal_tokenizers_share_all() -> None:
    assert shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 300, 300) == SIZE


def test_padding_rows_and_added_tokens_are_left_out() -> None:
    longer = tiny_tokenizer(extra=("extra1", "extra2"))
    assert shared_vocabulary(tiny_tokenizer(), longer, 264, 320) == SIZE
    assert shared_vocabulary(longer, tiny_tokenizer(), 320, 264) == SIZE


def test_a_head_that_is_shorter_than_the_tokenizer_limits() -> None:
    assert shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 300, SIZE - 3) == SIZE - 3


@pytest.mark.parametrize("name", ["other", None])
def test_the_prefix_ends_before_the_first_difference(name: str | None) -> None:
    assert shared_vocabulary(tiny_tokenizer(), Renamed(SIZE - 5, name), 300, 300) == SIZE - 5
    assert shared_vocabulary(Renamed(SIZE - 5, name), tiny_tokenizer(), 300, 300) == SIZE - 5


def test_tokenizers_of_different_families_are_refused_with_the_first_difference() -> None:
    with pytest.raises(UserError, match=r"only the first 40 of .*id 40: .* against 'other'.*sft"):
        shared_vocabulary(tiny_tokenizer(), Renamed(40, "other"), 300, 300)


def test_a_head_far_too_short_is_refused() -> None:
    with pytest.raises(UserError, match="head's end at 100"):
        shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 100, 300)
