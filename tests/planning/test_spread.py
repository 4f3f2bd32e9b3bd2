"""Shares of a student: one process has it whole, N have an N-th each, and what is gathered does not shrink."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.planning.memory import Sizes
from taid_vlm.planning.placements import BITS, TeacherBytes, teacher_bytes
from taid_vlm.planning.spread import BUCKET, Spread
from taid_vlm.planning.strategies import STRATEGIES
from taid_vlm.planning.trace import Trace
from taid_vlm.planning.units import Unit, Units

LAYER = Unit(parameters=6_000, trained=6_000, bytes=24_000, language=True, backward=True)
MODEL = Units(Unit(10_000, 10_000, 40_000, backward=True), (LAYER,) * 8, frozenset(), 16_000, 16_000)
TRAINED = 58_000
SIZES = Sizes(
    4 * TRAINED,
    4 * TRAINED,
    8 * TRAINED,
    largest_trained=0,
    largest_group=4 * TRAINED,
    teacher=0,
    teacher_head=0,
    largest_teacher=0,
    teacher_layers=0,
    encoder=0,
)
STEP = Trace(0, 0, {"activations": 1000, "loss": 200, "batch": 10, "gradients": 40_000})


def spread(name: str, gpus: int, bf16: bool = True) -> Spread:
    return Spread(STRATEGIES.get(name), MODEL, SIZES, gpus, bf16, process=7, buffers=3)


def test_one_process_has_it_all() -> None:
    held = spread("fsdp2", 1).held()
    assert held == {
        "process": 7,
        "student weights": 4 * TRAINED + 3,
        "gradients": 4 * TRAINED,
        "optimizer state": 8 * TRAINED,
    }


@given(gpus=st.integers(1, 512), name=st.sampled_from(["fsdp2", "zero2", "zero3"]), bf16=st.booleans())
def test_the_shares_of_all_are_the_whole(gpus: int, name: str, bf16: bool) -> None:
    one, many = spread(name, 1, bf16).held(), spread(name, gpus, bf16).held()
    for part in ("gradients", "optimizer state", "fp32 copy of a share"):
        if part in one:
            assert 0 <= gpus * many[part] - one[part] < gpus
    if name == "zero2":
        assert many["student weights"] == one["student weights"]
    else:
        assert 0 <= gpus * (many["student weights"] - 3) - (one["student weights"] - 3) < gpus


def test_what_fsdp2_gathers() -> None:
    by_name = {phase.name: phase.parts for phase in spread("fsdp2", 4).phases(STEP, (), TeacherBytes(100, 50))}
    working = by_name["forward and backward"]
    assert working["gathered layers"] == 4 * 10_000 + 2 * 2 * 6_000  # the root in fp32, two layers in bf16
    assert working["gradients on their way"] == 40_000 + (2 + 4) * 6_000
    assert (working["activations"], working["loss"], working["teacher weights"]) == (1010, 200, 100)
    assert by_name["end of the backward"]["gradients on their way"] == (4 + 4) * 10_000
    assert by_name["optimizer step"]["temporaries"] == TRAINED
    assert by_name["sharing the student out"]["student weights"] == 4 * TRAINED + TRAINED + 3


def test_deepspeed_copies_its_share_and_has_buffers_of_its_own() -> None:
    zero2, zero3 = (
        {phase.name: phase.parts for phase in spread(name, 4).phases(STEP, (), TeacherBytes())}
        for name in ("zero2", "zero3")
    )
    assert "gathered layers" not in zero2["forward and backward"]
    assert zero3["forward and backward"]["gathered layers"] == 4 * TRAINED  # a small model stays gathered
    for parts in (zero2, zero3):
        assert parts["forward and backward"]["gradients on their way"] == 40_000 + 4 * (6_000 + BUCKET)
    assert zero2["optimizer step"]["student weights"] == 4 * TRAINED + 3
    assert zero2["optimizer step"]["fp32 copy of a share"] == TRAINED


class TestTeacher:
    """A teacher of bf16 weights; the root is 24,000 bytes of tables and 4,000 of a rest."""

    MODEL = Units(
        Unit(14_000, 0, 28_000),
        (Unit(1_000, 0, 2_000), *(Unit(6_000, 0, 12_000, language=True),) * 8),
        frozenset(),
        head=12_000,
        embeddings=12_000,
    )
    WHOLE = 28_000 + 2_000 + 8 * 12_000

    def bytes(self, placement: str, gpus: int = 8, quantization: str = "int8") -> TeacherBytes:
        return teacher_bytes(self.MODEL, placement, gpus, 4, quantization, largest_weight=500, buffers=5)

    def test_replicated_is_whole(self) -> None:
        assert self.bytes("replicated") == TeacherBytes(self.WHOLE + 5)
        assert self.bytes("sharded", gpus=1) == TeacherBytes(self.WHOLE + 5)

    def test_sharded_keeps_its_head_and_gathers_two_units(self) -> None:
        own = self.bytes("sharded")
        assert own.resident == -(-(self.WHOLE - 12_000) // 8) + 12_000 + 5
        assert own.working == 4_000 + 2 * 12_000

    def test_offload_keeps_all_but_the_decoder(self) -> None:
        assert self.bytes("offload") == TeacherBytes(28_000 + 2_000 + 5, 12_000, 4 * 8 * 12_000)

    @pytest.mark.parametrize("quantization", BITS)
    def test_quantized_decoder(self, quantization: str) -> None:
        own = self.bytes("quantized", quantization=quantization)
        assert own.resident == pytest.approx(30_000 + 5 + 8 * 6_000 * BITS[quantization] / 8, abs=1)

    def test_served_is_elsewhere(self) -> None:
        assert self.bytes("served") == TeacherBytes()
