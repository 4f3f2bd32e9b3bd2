"""No line of ours can run what a file says, wait for a network without end, or guess the name of a temporary file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("taid_vlm", "eval/taid_vlm_eval", "benchmarks", "tools")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
CODE = (
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
)  # reading one of these runs what is in it
# The only pickles that are read: each was written by this very program, to a place that nobody else can write to.
OWN_PICKLES = {
    ("eval/taid_vlm_eval/data/spool.py", "pickle.loads"),  # a file without a name, of this process
    ("eval/taid_vlm_eval/processes.py", "pickle.load"),  # the pipe from the process that started this one
}
SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader")
NEVER = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), "runs text"),
    **dict.fromkeys(
        ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), "goes through a shell"
    ),
    **dict.fromkeys(
        ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"), "makes objects"
    ),
    "tempfile.mktemp": "a name that somebody else may take first",
    "torch.hub.load": "runs code of a repository",
}
REACH = (
    "urllib.request.urlopen",
    "urlopen",
    "requests.get",
    "requests.post",
    "requests.request",
    "httpx.get",
    "httpx.post",
)


def faults(source: str, name: str) -> Iterator[str]:
    """What is wrong, one line each."""
    tree = ast.parse(source)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for fault in _of_call(node, _dotted(node.func, names), name):
                yield f"{name}:{node.lineno}: {fault}"
        elif isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and _is(node.value, True):
            yield f"{name}:{node.value.lineno}: trust_remote_code=True runs code without being asked to"
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and _is(key, "trust_remote_code") and _is(value, True):
                    yield f"{name}:{node.lineno}: trust_remote_code is on without being asked for"


def _of_call(call: ast.Call, called: str, name: str) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    spread = any(keyword.arg is None for keyword in call.keywords)
    last = called.rpartition(".")[2]
    if called in NEVER:
        yield f"{called} {NEVER[called]}"
    if called == "torch.load" and not _is(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    module = called.split(".")[0]
    if module in CODE and last in ("load", "loads", "Unpickler", "open") and (name, called) not in OWN_PICKLES:
        yield f"{called} runs what it reads"
    if called in ("numpy.load", "np.load") and not _is(given.get("allow_pickle", ast.Constant(False)), False):
        yield f"{called} with pickles"
    if called in ("yaml.load", "yaml.load_all", "yaml.compose"):
        loader = given.get("Loader") or (call.args[1] if len(call.args) > 1 else None)
        if loader is None or _dotted(loader, {}) not in SAFE_LOADERS:
            yield f"{called} without a safe loader"
    if "shell" in given and not _is(given["shell"], False):
        yield "a command that goes through a shell"
    if (
        last == "extractall"
        or (last == "extract" and module in ("tarfile", "zipfile", "shutil"))
        or last == "unpack_archive"
    ):
        yield f"{called}: archives are unpacked by taid_vlm.common.archives alone"
    if called in REACH and "timeout" not in given:
        yield f"{called} without a timeout"
    if (
        last in ("from_pretrained", "from_config")
        and ".Auto" in f".{called}"
        and "trust_remote_code" not in given
        and not spread
    ):
        yield f"{called} without trust_remote_code: transformers would ask on the terminal"


def _imported(tree: ast.AST) -> dict[str, str]:
    """What the names of a module stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname: one.name for one in node.names if one.asname}
        elif (
            isinstance(node, ast.ImportFrom) and node.module in (*CODE, "os", "subprocess", "tempfile", "yaml", "torch")
        ) or (isinstance(node, ast.ImportFrom) and node.module in ("urllib.request", "shutil", "numpy")):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _is(node: ast.AST | None, value: object) -> bool:
    return (isinstance(node, ast.Constant) and node.value is value) or (
        isinstance(value, str) and isinstance(node, ast.Constant) and node.value == value
    )


def test_every_room_is_looked_at() -> None:
    for room in ROOMS:
        assert any(file.is_relative_to(ROOT / room) for file in FILES), room


def test_nothing_unsafe_is_called() -> None:
    found = [fault for file in FILES for fault in faults(file.read_text(), file.relative_to(ROOT).as_posix())]
    assert found == []


def test_the_exceptions_are_still_there() -> None:
    for name, called in OWN_PICKLES:
        assert called in (ROOT / name).read_text(), f"{name} no longer needs its exception"


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(f)",
        "import torch; torch.load(f, weights_only=False)",
        "from torch import load as read; read(f)",
        "import pickle; pickle.loads(raw)",
        "import pickle as p; p.Unpickler(f).load()",
        "from joblib import load; load(f)",
        "import marshal; marshal.load(f)",
        "import numpy as np; np.load(f, allow_pickle=True)",
        "import yaml; yaml.load(f)",
        "import yaml; yaml.load(f, Loader=yaml.UnsafeLoader)",
        "import yaml; yaml.unsafe_load(f)",
        "eval(text)",
        "exec(text)",
        "import os; os.system(text)",
        "from os import popen; popen(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "options = {'trust_remote_code': True}",
        "AutoModel.from_pretrained(name)",
        "transformers.AutoConfig.from_config(name)",
        "tarfile.open(f).extractall(folder)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(f, folder)",
        "import tempfile; tempfile.mktemp()",
        "import urllib.request; urllib.request.urlopen(address)",
        "from urllib.request import urlopen; urlopen(address)",
    ],
)
def test_each_of_these_would_be_found(line: str) -> None:
    assert list(faults(line, "made_up.py"))


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(f, weights_only=True)",
        "model.eval()",
        "import yaml; yaml.load(f, Loader=yaml.BaseLoader)",
        "import re; re.compile('a')",
        "import pickle; pickle.dumps(1)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "AutoModel.from_pretrained(name, **options)",
        "AutoModel.from_pretrained(name, trust_remote_code=asked)",
        "urllib.request.urlopen(address, timeout=5)",
    ],
)
def test_none_of_these_is_a_fault(line: str) -> None:
    assert list(faults(line, "made_up.py")) == []
