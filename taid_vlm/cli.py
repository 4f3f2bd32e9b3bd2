"""The command line: puts the commands together, and turns what goes wrong into a message and an exit status."""

import os
import shlex
import sys
from typing import Annotated

import typer

from taid_vlm import __version__
from taid_vlm.commands.analyzing import analyze_app
from taid_vlm.commands.checking import checking_app
from taid_vlm.commands.looking import looking_app
from taid_vlm.commands.measuring import measuring_app
from taid_vlm.commands.recipes import recipes_app
from taid_vlm.commands.running import running_app
from taid_vlm.commands.teaching import CommandStoppedError, teach
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import DENIED_ERRNO, FULL_ERRNO
from taid_vlm.common.stopping import RESUMABLE, StoppedError, status_of, stopping_once
from taid_vlm.common.telling import tell
from taid_vlm.convert.command import convert_app
from taid_vlm.example_answers import ask_examples
from taid_vlm.report.command import add_report_commands
from taid_vlm.study.command import study_app
from taid_vlm_eval.bridges.command import bridge_app

app = typer.Typer(
    help="Train compact vision-language models by distilling large ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _first_page(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the installed version and exit.")
    ] = False,
) -> None:
    pass


for commands in (running_app, looking_app, measuring_app, checking_app):
    app.add_typer(commands)
app.add_typer(recipes_app, name="recipes")
app.add_typer(study_app, name="study")
app.add_typer(analyze_app, name="analyze")
app.add_typer(convert_app, name="convert")
app.add_typer(bridge_app, name="bridge")
add_report_commands(app, ask_examples)
teach(app)  # the last line: it knows only what is there


def main() -> None:
    """Entry point: a user's mistake is one message and status 1, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # The libraries draw bars into log files, too, and above one of ours a line for each tenth of a second. Below a harness
    # of others there are none of ours.
    if not sys.stderr.isatty() or sys.argv[1:2] != ["bridge"]:
        os.environ.setdefault("TQDM_DISABLE", "1")
    with stopping_once():
        _run()


def _run() -> None:
    try:
        app()
    except UserError as error:
        tell(f"error: {error}")
        sys.exit(1)
    except OSError as error:
        # The last net, for writers outside our own file functions (trackers, downloads).
        if error.errno not in (*FULL_ERRNO, *DENIED_ERRNO):
            raise
        tell(f"error: cannot write {error.filename or 'a file'}: {error.strerror}")
        sys.exit(1)
    except StoppedError as stopped:
        _tell_stopped(str(stopped), goes_on=True)
        sys.exit(RESUMABLE)
    except CommandStoppedError as stopped:
        _tell_stopped(str(stopped), stopped.goes_on)
        sys.exit(stopped.status)
    except KeyboardInterrupt as stopped:  # before a command began
        _tell_stopped("the same command starts anew", goes_on=False)
        sys.exit(status_of(stopped))


def _tell_stopped(how: str, goes_on: bool) -> None:
    tell(f"stopped: {how}")
    if goes_on and "RANK" not in os.environ:  # of several processes the launcher knows the command
        tell(f"  {shlex.join(['taid-vlm', *sys.argv[1:]])}")


if __name__ == "__main__":
    main()
