"""Work that says nothing: what a command prints in the end is all that a script has to read."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quietly(quiet: bool = True, *, output: bool = True) -> Iterator[None]:
    """Drop what is printed inside, progress bars and notes of libraries too; errors that are raised pass.

    Args:
        quiet: False changes nothing.
        output: drop standard output as well, not only standard error.
    """
    if not quiet:
        yield
        return
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported
    with ExitStack() as stack, open(os.devnull, "w") as nowhere:
        sys.stdout.flush()
        stack.enter_context(redirect_stderr(nowhere))
        if output:
            stack.enter_context(redirect_stdout(nowhere))
        yield
