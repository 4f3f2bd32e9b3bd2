"""A run that was asked to stop, and how the process says so."""

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


class StoppedError(Exception):
    """The run was asked to stop and has written a checkpoint; the same command goes on from it."""
