"""What one call of an evaluation found, of all its tasks."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import overload

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.protocols.averages import Average
from taid_vlm_eval.result import Result


class Results(Sequence[Result]):
    """The results in the order of the tasks, by place or by the name of a task; printed, it is a table.

    A figure is ``results["pope"].value`` with its 95 % interval ``low`` to ``high``, the named ones of a metric are
    ``results["pope"].named["adversarial/f1"]["value"]`` and so on; see :class:`taid_vlm_eval.result.Result`.

    Attributes:
        not_run: why a task has no result, by name: its data is not there, only a judge could score it, ...
        answers_only: tasks whose answers were written and wait for a judge.
        averages: figures over several tasks that a protocol defines, by name; see :class:`taid_vlm_eval.protocols.averages.Average`.
        folder: where answers and results lie; None where nothing was kept.
    """

    def __init__(
        self,
        results: Sequence[Result],
        not_run: Mapping[str, str] | None = None,
        answers_only: Sequence[str] = (),
        averages: Sequence[Average] = (),
        folder: Path | None = None,
    ) -> None:
        self._results = tuple(results)
        self.not_run, self.answers_only = dict(not_run or {}), tuple(answers_only)
        self.averages = {one.average: one for one in averages}
        self.folder = folder

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that have a result."""
        return [one.task for one in self._results]

    @overload
    def __getitem__(self, key: int | str) -> Result: ...

    @overload
    def __getitem__(self, key: slice) -> "Sequence[Result]": ...

    def __getitem__(self, key: int | str | slice) -> "Result | Sequence[Result]":
        """One result, by place or name.

        Raises:
            UserError: a task without a result; the message says why it has none.
        """
        if not isinstance(key, str):
            return self._results[key]
        if key in self.tasks:
            return self._results[self.tasks.index(key)]
        if key in self.not_run:
            raise UserError(f"{key} was not run: {self.not_run[key]}")
        if key in self.answers_only:
            raise UserError(f"{key} has answers only: its score needs a judge; name one with judge=")
        raise UserError(f"no result of a task {key!r}: {did_you_mean(key, self.tasks)}")

    def __contains__(self, one: object) -> bool:
        return one in self.tasks or one in self._results

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def rows(self) -> list[dict[str, object]]:
        """What ``taid-vlm eval --json`` prints: a mapping for each task, then for each average."""
        from taid_vlm_eval.table import UNSCORED

        rows: list[dict[str, object]] = [result.stated() for result in self._results]
        rows += [{"task": name, "answers_only": UNSCORED} for name in self.answers_only]
        rows += [{"task": name, "not_run": reason} for name, reason in self.not_run.items()]
        return rows + [asdict(one) for one in self.averages.values()]

    def to_json(self) -> str:
        """:meth:`rows` as JSON, indented, in ASCII: a terminal shows it and obeys nothing in it."""
        return json.dumps(self.rows(), indent=2)

    def __str__(self) -> str:
        from rich.console import Console

        from taid_vlm_eval.table import print_table

        text = io.StringIO()
        print_table(self, Console(file=text, color_system=None))
        return text.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        from taid_vlm_eval.table import with_interval

        found = [f"{one.task}: {with_interval(one.value, one.low, one.high, one.top)}" for one in self._results]
        found += [f"{name}: answers only" for name in self.answers_only] + [f"{name}: not run" for name in self.not_run]
        return f"<Results {', '.join(found)}>"
