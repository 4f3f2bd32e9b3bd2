"""The student's own answers, lined up with the teacher by the ids that the student wrote.

Decoded and encoded again, an answer may come back as other tokens than those that were drawn; so each model's own question is followed by
the ids themselves.
"""

from collections.abc import Sequence

from taid_vlm.common.errors import UserError
from taid_vlm.data.images import image_size
from taid_vlm.data.pairing import Pair, Pairer, RendersChats, Side
from taid_vlm.data.record import Record


class WrittenPairs:
    """Pairs of records and answers.

    Args:
        vocabulary: number of leading ids that mean the same to both models.
        ends: the tokens with which student and teacher end a turn.
    """

    def __init__(self, pairer: Pairer, vocabulary: int, ends: tuple[int, int]) -> None:
        self.pairer, self.vocabulary, self.ends = pairer, vocabulary, ends
        self._control = set(ends).union(*(control_ids(model) for model in pairer.models))

    def said(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """The ids up to the first that no answer goes on after, and whether there was one.

        It is the end of the turn, another control token, or a token that the teacher does not have. It stays, for it was the student's
        choice at a place where the teacher's is known.
        """
        for place, token in enumerate(ids):
            if token in self._control or token >= self.vocabulary:
                return list(ids[: place + 1]), True
        return list(ids), False

    def pair(self, record: Record, ids: Sequence[int]) -> Pair | None:
        """A record's question with an answer; None where nothing of the answer can be learnt from.

        Only this answer is supervised, of several turns the last.
        """
        try:
            prompts = [prompt_ids(model, record) for model in self.pairer.models]
        except UserError:  # a picture that can no longer be read
            return None
        labels, stopped = self.said(ids)
        room = max(0, self.pairer.max_length - max(map(len, prompts)))
        if len(labels) > room:
            labels, stopped = labels[:room], False
        if len(labels) <= stopped:  # no words (a bool counts as 0 or 1)
            return None
        if stopped and self.pairer.ends_differ:
            labels.pop()  # as with given answers: the words are distilled, when to stop is not
            stopped = False
        # In place of what it may not know, or takes for a picture, each reads its own end; no row comes after it.
        reads = [[*labels[:-1], end] if stopped else labels for end in self.ends]
        student, teacher = (side_of(prompt, answer) for prompt, answer in zip(prompts, reads, strict=True))
        return Pair(record.id, labels, student, teacher, record.images, student_written=True)


def prompt_ids(model: RendersChats, record: Record) -> list[int]:
    """Ids of a record up to where its last answer begins, as when it is generated.

    Raises:
        UserError: see ``render``, or a picture whose size is needed and cannot be read.
    """
    sizes = [image_size(picture) for picture in record.images] if model.needs_sizes else None
    return list(model.render(record.messages[:-1], add_generation_prompt=True, sizes=sizes).ids)


def side_of(prompt: list[int], answer: list[int]) -> Side:
    """A prompt with an answer, whose rows begin with the last token of the prompt."""
    return Side([*prompt, *answer], list(range(len(prompt) - 1, len(prompt) + len(answer) - 1)))


def control_ids(model: RendersChats) -> set[int]:
    """Ids of special tokens, and that of the placeholder of pictures."""
    tokenizer = model.tokenizer
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    placeholder = set() if model.image_token_id is None else {model.image_token_id}
    return added | set(tokenizer.all_special_ids) | placeholder
