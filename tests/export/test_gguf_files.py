"""llama.cpp's converter is found, called for both files, and its failures are told; a stand-in plays it."""

from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.export.gguf_files import CONVERTER, find_converter, write_gguf

STAND_IN = """
import pathlib, sys
arguments = sys.argv[1:]
out = pathlib.Path(arguments[arguments.index("--outfile") + 1])
if (pathlib.Path(arguments[0]) / "refuse").exists():
    sys.exit("Model FooForCausalLM is not supported")
out.write_text(" ".join(a for a in arguments if a != str(out)))
"""


@pytest.fixture
def llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "llama.cpp"
    home.mkdir()
    (home / CONVERTER).write_text(STAND_IN)
    monkeypatch.setenv("LLAMA_CPP", str(home))
    return home


def test_text_comes_from_the_plain_language_model_and_pictures_from_the_checkpoint(
    tmp_path: Path, llama_cpp: Path
) -> None:
    checkpoint = tmp_path / "student"
    (checkpoint / "language_model").mkdir(parents=True)
    files = write_gguf(find_converter(), checkpoint, tmp_path / "gguf", sees=True)
    assert [file.name for file in files] == ["text.gguf", "mmproj.gguf"]
    assert files[0].read_text().startswith(str(checkpoint / "language_model"))
    assert f"{checkpoint} --mmproj" in files[1].read_text()


def test_a_refusal_is_told_and_nothing_is_left(tmp_path: Path, llama_cpp: Path) -> None:
    checkpoint = tmp_path / "student"
    (checkpoint / "language_model").mkdir(parents=True)
    (checkpoint / "refuse").touch()
    with pytest.raises(UserError, match=r"mmproj\.gguf: Model FooForCausalLM is not supported"):
        write_gguf(find_converter(), checkpoint, tmp_path / "gguf", sees=True)
    assert not list((tmp_path / "gguf").iterdir())


@pytest.mark.parametrize("value", ["", "/nowhere"])
def test_a_missing_converter_is_told_with_where_to_get_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP", value)
    with pytest.raises(UserError, match=r"ggml-org/llama\.cpp"):
        find_converter()
