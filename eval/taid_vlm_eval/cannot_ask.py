"""Why one model cannot be asked one task, while other tasks may go on."""

from taid_vlm.common.errors import UserError


class CannotAskError(UserError):
    """The model and the task do not fit: the task has what the model cannot read, or one item takes more memory than there is."""
