"""Every command of the pages exists: what no test runs says what it needs, and is parsed by its own program."""

import pytest

from taid_vlm.common.errors import UserError
from tests.docs.commands import OURS, SHELLS, check, commands_of
from tests.docs.pages import Block, blocks, blocks_of, pages, text_of
from tests.docs.room import runs_in_the_room
from tools.build_docs import NEEDS

# Made by a program, which writes its pages anew: no mark would stay. Its commands take days.
GENERATED = {"docs/results/study.md", "docs/results/scaling.md"}


@pytest.mark.parametrize("page", pages())
def test_commands_stand_in_blocks_of_shell(page: str) -> None:
    inside = [line for block in blocks_of(page) if block.language in ("", "text") for line in block.text.splitlines()]
    indented = [line.strip() for line in text_of(page).splitlines() if line.startswith("    ")]
    elsewhere = {line.strip() for block in blocks_of(page) for line in block.text.splitlines()}
    found = [line for line in [*inside, *(set(indented) - elsewhere)] if OURS.match(line)]
    assert not found or page in GENERATED, f"{page}: {found[0]}: a block with commands begins with ```sh"


@pytest.mark.parametrize("block", blocks(*SHELLS), ids=str)
def test_a_command_is_run_or_says_what_it_needs(block: Block) -> None:
    needs = block.marks.get("needs", "").split()
    assert set(needs) <= set(NEEDS), f"{block}: needs are {', '.join(NEEDS)}"
    assert needs or block.page in GENERATED or runs_in_the_room(block), (
        f"{block}: no test runs this. Add the page to tests/docs/room.py, or say above the block what it needs: <!-- needs: gpu -->"
    )
    for command in commands_of(block):
        try:
            check(command.text)
        except (AssertionError, UserError) as error:
            pytest.fail(f"{command}\n{error}")


@pytest.mark.parametrize(
    "wrong",
    [
        "taid-vlm trian quickstart/taid",
        "taid-vlm train quickstart/tadi",
        "taid-vlm train quickstart/taid loss.alfa=1",
        "taid-vlm train RECIPE --gpus 8",
        "taid-vlm launch RECIPE --strategy zero4",
        "taid-vlm eval MODEL --tasks easy_vqua",
        "taid-vlm eval MODEL --suite vlm",
        "taid-vlm export runs/taid --to qwen",
        "taid-vlm --instal-completion",
        "accelerate launch --config_file $(taid-vlm launch --konfig fsdp2) -m taid_vlm train RECIPE",
        "torchrun --nproc_per_node 8 -m taid_vlm cash RECIPE",
        "pip install 'taid-vlm[deepsped]'",
        "make quickstrat",
        "python benchmarks/los.py",
        "python benchmarks/loss.py --devise cuda",
        "python -m taid_vlm_eval --list",
        "trainer quickstart/taid",
    ],
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, UserError)):
        check(wrong)
