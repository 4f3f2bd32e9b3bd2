"""What a call will run, found out before a model is loaded: a misspelt name or missing data should not cost that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm_eval.protocols import DEFAULT, require_choice
from taid_vlm_eval.protocols.averages import averages, write_averages
from taid_vlm_eval.result import Result
from taid_vlm_eval.results import Results
from taid_vlm_eval.runner import cannot_run, check_call
from taid_vlm_eval.suites import Wanted, without_suites
from taid_vlm_eval.task import TaskFile
from taid_vlm_eval.ways import require_letters, require_teacher


@dataclass(frozen=True)
class Planned:
    """The tasks that can be run, and the reason for each that cannot, by name; those that turn out so on the way are added."""

    tasks: list[TaskFile]
    not_run: dict[str, str]

    def results(self, found: Sequence[Result], protocol: str, folder: Path | None) -> Results:
        """What was found, and what was not; averages are written beside the results.

        Raises:
            UserError: nothing could be run.
        """
        told = {*self.not_run, *(one.task for one in found)}
        unscored = [one.task.name for one in self.tasks if one.task.name not in told]
        if not found and not unscored:
            raise UserError("; ".join(self.not_run.values()))
        means = averages(found, protocol)
        if folder is not None:
            write_averages(means, folder)
        return Results(found, self.not_run, unscored, means, folder)


def plan_call(
    tasks: Sequence[Wanted],
    suite: str | None = None,
    *,
    limit: int | None,
    batch_size: int,
    workers: int,
    tasks_folders: Sequence[str | Path] = (),
    protocol: str = DEFAULT,
    family: str | None = None,
    letters: str = "generated",
    has_teacher: bool = False,
    has_judge: bool = False,
) -> Planned:
    """Read the tasks, those of suites among them.

    Raises:
        UserError: unknown or malformed tasks, settings that do not exist or do not go together, or nothing that can be run.
    """
    named, not_run = without_suites(tasks, [] if suite is None else [suite], tasks_folders)
    files = check_call(named, limit=limit, batch_size=batch_size, workers=workers, tasks_folders=tasks_folders)
    require_choice(protocol, family)
    require_letters(letters, [one.task for one in files])
    require_teacher(has_teacher, [one.task for one in files])
    not_run |= cannot_run(files, protocol, has_judge)
    rest = [one for one in files if one.task.name not in not_run]
    if not rest:
        raise UserError("; ".join(not_run.values()))
    return Planned(rest, not_run)
