"""Several processes by one command: the settings are those of accelerate's own launcher, and mistakes are told before they start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.launch import STRATEGIES, config_file, launch
from taid_vlm.launch.strategies import FOLDER


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_accelerate_reads_each_config_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    # Nothing of the machine may fill in what the file leaves out.
    for name in [name for name in os.environ if name.startswith(("ACCELERATE", "FSDP", "DEEPSPEED"))]:
        monkeypatch.delenv(name)
    assert load_config_from_file(str(file)).num_processes == yaml.safe_load(file.read_text())["num_processes"]
    args = launch_command_parser().parse_args(["--config_file", str(file), "-m", "taid_vlm"])
    args, _, _ = _validate_launch_command(args)
    assert args.use_fsdp == (file.stem in ("fsdp2", "multi_node"))
    assert args.use_deepspeed == file.stem.startswith("zero")
    if args.use_fsdp:
        assert int(args.fsdp_version) == 2


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_environment_is_what_accelerate_makes_of_the_file(name: str) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    args = launch_command_parser().parse_args(["--config_file", str(config_file(name)), "-m", "taid_vlm"])
    args, _, _ = _validate_launch_command(args)
    args.main_process_port = 0
    args.deepspeed_fields_from_accelerate_config = ""  # only told to people
    made = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    for key, value in STRATEGIES.get(name).environment.items():
        assert made[key] == value, key


def test_mistakes_are_told_before_anything_is_started() -> None:
    with pytest.raises(UserError, match="did you mean 'fsdp2'"):
        launch(["x.yaml"], processes=2, strategy="fsdp")
    with pytest.raises(UserError, match="--main HOST:PORT"):
        launch(["x.yaml"], processes=2, nodes=2)
    with pytest.raises(UserError, match="did you mean 'fsdp2'"):
        config_file("fsdp")


def test_the_command_tells_a_mistake_in_the_recipe_once(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("student: {}\n")
    command = [sys.executable, "-m", "taid_vlm", "launch", "wrong.yaml", "--gpus", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
