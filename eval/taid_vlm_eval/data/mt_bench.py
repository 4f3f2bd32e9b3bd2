"""MT-Bench: 80 conversations of two questions (Zheng et al., arXiv:2306.05685), in FastChat's files."""

import json
from collections.abc import Iterator
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm_eval.data.hub import own_folder
from taid_vlm_eval.data.item import SOURCES, Item
from taid_vlm_eval.task import Data


def question_file(data: Data, beside: Path) -> Path:
    """The file of questions: beside the task, or in the cache.

    Raises:
        UserError: it is at neither place.
    """
    places = [beside / Path(data.path).expanduser(), own_folder(data.path)]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"no questions at {places[-1]}; put FastChat's file fastchat/llm_judge/data/mt_bench/question.jsonl there"
    )


@SOURCES.register("mt_bench")
def read_mt_bench(path: Path, data: Data) -> Iterator[Item]:
    """One JSON object a line: ``question_id``, ``category``, ``turns``, and for some ``reference``, the answers that a judge is shown.

    Facts: ``turns``, those after the first, ``category`` and ``reference``.

    Raises:
        UserError: a line that is not such an object; the message names it.
    """
    # Not splitlines, which also splits at characters that may stand inside JSON texts.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            turns, name, category = [str(one) for one in row["turns"]], str(row["question_id"]), str(row["category"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number + 1}: expected question_id, category and turns ({error!r})"
            ) from error
        if not turns:
            raise UserError(f"{path}, line {number + 1}: turns is empty, expected the questions of a conversation")
        facts = {"turns": turns[1:], "category": category}
        if row.get("reference"):
            facts["reference"] = [str(one) for one in row["reference"]]
        yield Item(name, turns[0], "", facts=facts)
