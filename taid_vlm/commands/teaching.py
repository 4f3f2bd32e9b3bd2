"""Help that shows examples first, and a Ctrl-C that says how to go on, for all commands of the tree."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from taid_vlm.commands.examples import EXAMPLES, GO_ON, PANELS
from taid_vlm.common.stopping import status_of

REST = "More"


class CommandStoppedError(Exception):
    """Ctrl-C or SIGTERM in a command; the message says how to go on.

    Args:
        said: what the command itself says of it. goes_on: the same command goes on from what is kept. status: of the process.
    """

    def __init__(self, said: str, goes_on: bool, status: int) -> None:
        kept = "what was done is kept; the same command goes on from there"
        super().__init__(said or (kept if goes_on else "nothing was kept; the same command starts anew"))
        self.goes_on, self.status = goes_on, status


def teach(app: typer.Typer) -> None:
    """Give examples and an answer to Ctrl-C to every command and group below ``app``; to be called once, when all are there."""
    app.info.cls = _group("")
    _teach(app, "")


def _teach(app: typer.Typer, path: str) -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        here = f"{path} {name}".strip()
        command.cls = _command(here)
        command.callback = _answers_ctrl_c(command.callback, here)
    callback = app.registered_callback
    if callback is not None and callback.callback is not None and path:
        callback.callback = _answers_ctrl_c(callback.callback, path)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        name = group.name if isinstance(group.name, str) else ""
        here = f"{path} {name}".strip()
        if name:
            group.cls = _group(here)
        _teach(group.typer_instance, here)


def _answers_ctrl_c(callback: Callable[..., Any], path: str) -> Callable[..., Any]:
    """The command, with an exception of its own in place of KeyboardInterrupt, which the parser would swallow."""

    @wraps(callback)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return callback(*arguments, **options)
        except KeyboardInterrupt as stopped:
            raise CommandStoppedError(str(stopped), path in GO_ON, status_of(stopped)) from None

    return call


def _command(path: str) -> type[TyperCommand]:
    class Taught(TyperCommand):
        """A command whose help begins with examples."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            _format_help(self, path, ctx, formatter)

    return Taught


def _group(path: str) -> type[TyperGroup]:
    class Taught(TyperGroup):
        """The same of a group, and its commands under headings."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            _format_help(self, path, ctx, formatter)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            names = self.list_commands(ctx)
            panels = PANELS if not path else {}
            placed = {name for panel in panels.values() for name in panel}
            rest = tuple(name for name in names if name not in placed)
            width = max((len(name) for name in names), default=0)
            for panel, wanted in {**panels, REST if panels else "Commands": rest}.items():
                rows = [(name.ljust(width), self.commands[name]) for name in wanted if name in self.commands]
                shown = [(name, one.get_short_help_str(100)) for name, one in rows if not one.hidden]
                if shown:
                    with formatter.section(panel):
                        formatter.write_dl(shown)

    return Taught


def _format_help(command: Any, path: str, ctx: Any, formatter: Any) -> None:
    command.format_help_text(ctx, formatter)
    if path in EXAMPLES:
        with formatter.section("Examples"):
            for line in EXAMPLES[path]:  # not through write_text, which would break them
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
    formatter.write("\n")
    command.format_usage(ctx, formatter)
    command.format_options(ctx, formatter)
    command.format_epilog(ctx, formatter)
