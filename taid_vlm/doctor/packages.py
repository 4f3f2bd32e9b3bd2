"""Packages that taid-vlm asks for, as its own metadata names them, and what each group of optional ones gives."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from taid_vlm.common.plug_ins import KINDS, all_plug_ins
from taid_vlm.common.registry import Registry

NAME = "taid-vlm"

# A test compares the names with pyproject's extras.
GIVES: Registry[str] = Registry("extra")
for _extra, _gives in {
    "dev": "the tests and linters: make test",
    "docs": "the site of the documentation: make docs",
    "benchmark": "other libraries' losses, for benchmarks/loss.py to compare with",
    "smolvlm": "exports to SmolVLM: its stock processor needs it",
    "internvl2": "taid-vlm convert internvl2: reading tokenizer.model, and trying the converted tokenizer against it",
    "deepspeed": "the strategies zero2 and zero3 of taid-vlm launch",
    "torchao": "a teacher in int8 or int4: teacher.quantization",
    "bitsandbytes": "a teacher in nf4: teacher.quantization; training.optimizer adamw_8bit",
    "lm-eval": "taid-vlm bridge lm-eval: the tasks of lm-evaluation-harness",
    "lmms-eval": "our models in lmms-eval, as --model taid_vlm",
    "wandb": "training.trackers: [wandb]",
    "trackio": "training.trackers: [trackio]",
    "mlflow": "training.trackers: [mlflow]",
}.items():
    GIVES.register(_extra)(_gives)

# Optional, and in no extra: each is built for one machine, or wants an environment of its own.
BESIDE = {
    "flash-attn": "training.attention: flash_attention_2",
    "vllm": "a teacher on a server (teacher.placement: served), and evaluation of vllm:PATH",
}


@dataclass(frozen=True)
class Package:
    """One requirement. ``version`` is None where it is not installed; ``fits`` says whether it is what was asked for."""

    name: str
    asked: str
    version: str | None
    fits: bool


@dataclass(frozen=True)
class Extra:
    """One group of optional packages, and what it gives."""

    name: str
    gives: str
    packages: tuple[Package, ...]

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return all(package.fits for package in self.packages)


def needed() -> tuple[Package, ...]:
    """What taid-vlm cannot be without."""
    return tuple(_package(one) for one in _requirements() if _wanted(one, ""))


def extras() -> tuple[Extra, ...]:
    """All groups of optional packages that the installed metadata names."""
    asked = _requirements()
    names = dict.fromkeys(name for one in asked for name in GIVES if not _wanted(one, "") and _wanted(one, name))
    return tuple(
        Extra(
            name, GIVES.get(name), tuple(_package(one) for one in asked if not _wanted(one, "") and _wanted(one, name))
        )
        for name in names
    )


def beside() -> tuple[Extra, ...]:
    """Optional packages that no extra names."""
    return tuple(Extra(name, gives, (_package(Requirement(name)),)) for name, gives in BESIDE.items())


@dataclass(frozen=True)
class Outside:
    """A part that another package brings, and how it is called in a recipe or a task."""

    kind: str
    name: str
    package: str
    version: str


def outside() -> tuple[Outside, ...]:
    """All of them, as metadata tells."""
    return tuple(Outside(KINDS[one.group], one.name, one.package, one.version) for one in all_plug_ins())


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(NAME) or []]
    except PackageNotFoundError:  # the sources on PYTHONPATH, never installed
        return []


def _wanted(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement) -> Package:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Package(requirement.name, str(requirement.specifier), None, False)
    return Package(
        requirement.name, str(requirement.specifier), found, requirement.specifier.contains(found, prereleases=True)
    )
