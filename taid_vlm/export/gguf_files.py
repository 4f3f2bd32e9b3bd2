"""GGUF files for llama.cpp, made by its own converter from an exported checkpoint.

The text model is converted from the plain language model beside the checkpoint, which llama.cpp knows under its own
name whatever class the checkpoint has; pictures go into a second file, the mmproj.
"""

import os
import subprocess
import sys
from pathlib import Path

from taid_vlm.common.errors import UserError

CONVERTER = "convert_hf_to_gguf.py"
HOME = "LLAMA_CPP"


def find_converter() -> Path:
    """llama.cpp's converter in the folder that the environment variable LLAMA_CPP names.

    Raises:
        UserError: how to get one.
    """
    home = os.environ.get(HOME, "")
    script = Path(home).expanduser() / CONVERTER
    if home and script.is_file():
        return script
    found = f"{HOME} is {home!r}, which holds no {CONVERTER}" if home else f"the environment variable {HOME} is not set"
    raise UserError(
        f"GGUF files are made by llama.cpp's converter, and {found}: get llama.cpp's source (github.com/ggml-org/llama.cpp) and "
        f"set {HOME} to its folder"
    )


def write_gguf(converter: Path, checkpoint: Path, target: Path, *, sees: bool, dtype: str = "f16") -> list[Path]:
    """Convert ``checkpoint`` into ``target``/text.gguf, and ``target``/mmproj.gguf if it ``sees``.

    Raises:
        UserError: the converter fails; its last lines are in the message, and no file is left.
    """
    text = checkpoint / "language_model" if sees else checkpoint
    jobs = [(target / "text.gguf", [str(text)])]
    if sees:
        jobs.append((target / "mmproj.gguf", [str(checkpoint), "--mmproj"]))
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for file, arguments in jobs:
        unfinished = file.with_name(f".{file.name}")
        done = subprocess.run(
            [sys.executable, str(converter), *arguments, "--outfile", str(unfinished), "--outtype", dtype],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not unfinished.is_file():
            for each in (*written, unfinished):
                each.unlink(missing_ok=True)
            said = "; ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
            raise UserError(f"llama.cpp's converter could not make {file.name}: {said}")
        os.replace(unfinished, file)
        written.append(file)
    return written
