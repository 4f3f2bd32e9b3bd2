"""How a student is spread over processes, by name: a config file for ``accelerate launch``, and what it stands for."""

from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.registry import Registry

FOLDER = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Strategy:
    """What the environment of the processes holds, for accelerate and for us; as its own launcher makes it of the config file."""

    environment: dict[str, str]


STRATEGIES: Registry[Strategy] = Registry("strategy")
STRATEGIES.register("ddp")(Strategy({}))
STRATEGIES.register("fsdp2")(
    Strategy({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"})
)
for _stage in ("2", "3"):
    STRATEGIES.register(f"zero{_stage}")(
        Strategy({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": _stage})
    )


def config_file(name: str) -> Path:
    """A shipped config file of accelerate.

    Raises:
        UserError: there is none of this name.
    """
    found = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
    if name not in found:
        raise UserError(f"unknown accelerate config {name!r}: {did_you_mean(name, found)}")
    return found[name]
