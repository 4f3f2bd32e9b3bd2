"""The command line in this process, as ``taid-vlm`` runs it: to the exit status, with all that it prints."""

import sys

import pytest

from taid_vlm.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of ``taid-vlm ARGUMENTS``; what it prints is left to ``capfd``."""
    monkeypatch.setattr(sys, "argv", ["taid-vlm", *arguments])
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return 0
