"""Entering and leaving an answers file: what is interrupted holds nothing, and the last one to leave sees everything."""

from pathlib import Path

import pytest

from taid_vlm_eval.answers import line_of
from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.locks import SharedLocks
from tests.eval.test_eval_answers import ANSWERS, HEADER, IDS


def test_stopped_while_it_waits_for_the_lock_it_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedLocks, "wait", stop)
        with pytest.raises(KeyboardInterrupt):
            AnswersFile(tmp_path / "x.answers.jsonl", HEADER, IDS)
    with AnswersFile(tmp_path / "x.answers.jsonl", HEADER, IDS) as file:
        assert len(file) == 0


def test_the_last_one_to_leave_takes_notice_of_what_others_appended(tmp_path: Path) -> None:
    with AnswersFile(path := tmp_path / "x.answers.jsonl", HEADER, IDS) as file:
        file.append(ANSWERS[1:])
        with path.open("ab") as other:  # as another process does that leaves before this one
            other.write(line_of(ANSWERS[0]))
        assert len(file) == len(ANSWERS) - 1
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[1:] == [line_of(one) for one in ANSWERS]
