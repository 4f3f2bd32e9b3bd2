"""Which part of two vocabularies is one and the same."""

from typing import Any

from taid_vlm.common.errors import UserError


def shared_vocabulary(student_tokenizer: Any, teacher_tokenizer: Any, student_rows: int, teacher_rows: int) -> int:
    """Length of the longest prefix of ids that mean the same string on both sides.

    Both heads are cut to it before the softmax: padding rows and tokens that one side added never enter the distribution.

    Args:
        student_rows: rows of the student's head, which may exceed its tokenizer (padding).
        teacher_rows: likewise.

    Raises:
        UserError: the tokenizers have nothing or little in common.
    """
    ours, theirs = _tokens_by_id(student_tokenizer), _tokens_by_id(teacher_tokenizer)
    limit = min(len(ours), len(theirs), student_rows, teacher_rows)
    length = next((i for i in range(limit) if ours[i] is None or ours[i] != theirs[i]), limit)
    smaller = min(len(ours), len(theirs))
    if length < 0.9 * smaller:
        where = (
            f"id {length}: {ours[length]!r} against {theirs[length]!r}"
            if length < limit
            else f"the head's end at {length}"
        )
        raise UserError(
            f"teacher and student have different tokenizers: only the first {length} of {smaller} ids agree (then {where}). "
            f"Losses that compare tokens need a shared vocabulary. Two ways out: a student whose language model has the teacher's "
            f"tokenizer, or answers written by the teacher (data.answers: teacher with loss.name: sft)"
        )
    return length


def _tokens_by_id(tokenizer: Any) -> list[str | None]:
    table: list[str | None] = [None] * (max(tokenizer.get_vocab().values()) + 1)
    for token, index in tokenizer.get_vocab().items():
        table[index] = token
    return table
