"""Why a model gave no answer to one item."""

from taid_vlm.common.errors import UserError


class AnswerFault(Exception):  # noqa: N818 (no error of the program)
    """What ``generate`` may return in the place of one answer, when asking again later may help.

    A server that timed out, refused, or sent junk; the other items of the batch keep their answers. The item is recorded
    with this text as its error, counted and reported in the result, and asked again when the run is started again.

    Args:
        lasting: asking again would not help; it is not asked again.
    """

    def __init__(self, text: str, lasting: bool = False) -> None:
        super().__init__(text)
        self.text, self.lasting = text, lasting


class UnaskableError(UserError):
    """One request that the model cannot be asked, whatever else is in the batch; the others can be."""
