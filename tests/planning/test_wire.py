"""Bytes on the wire against a ring that is played through, and against sums written out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.planning.cards import card_named
from taid_vlm.planning.strategies import STRATEGIES
from taid_vlm.planning.units import Unit, Units
from taid_vlm.planning.wire import REACHED, Links, ring, student_traffic, teacher_traffic

GPUS = st.integers(2, 64)
MODEL = Units(
    root=Unit(parameters=1000, trained=900, bytes=4000, backward=True),
    layers=(
        Unit(parameters=64, trained=0, bytes=256),  # of a frozen encoder
        Unit(parameters=640, trained=640, bytes=2560, language=True, backward=True),
        Unit(parameters=640, trained=640, bytes=2560, language=True, backward=True),
    ),
    names=frozenset(),
    head=1600,
    embeddings=1600,
)


def played(chunks: int, sums: bool) -> int:
    """Chunks that a process sends until each has all of ``chunks``, one from each; or the sum of its own one."""
    held = [{rank} for rank in range(chunks)]
    sent = 0
    # Summing and scattering is the same walk, with a partial sum in place of a copy.
    while any(len(own) < chunks for own in held):
        passed = [(rank - sent) % chunks for rank in range(chunks)]
        for rank in range(chunks):
            held[(rank + 1) % chunks].add(passed[rank])
        sent += 1
    return 2 * sent if sums else sent


@given(gpus=GPUS, chunk=st.integers(1, 10**9))
def test_a_ring(gpus: int, chunk: int) -> None:
    assert ring(chunk * gpus, gpus) == chunk * played(gpus, sums=False)


@given(gpus=GPUS)
def test_ddp_sums_its_gradients_everywhere_once_a_step(gpus: int) -> None:
    size = 4 * (900 + 640 + 640) * gpus  # a multiple of the chunks
    model = Units(Unit(trained=size // 4), (), frozenset(), 0, 0)
    for micro_batches in (1, 8):
        sent = student_traffic(STRATEGIES.get("ddp"), model, gpus, micro_batches, bf16=True)
        assert sent == {"gradients": size // gpus * played(gpus, sums=True)}


@pytest.mark.parametrize(("bf16", "layer"), [(True, 2), (False, 4)])
def test_fsdp2_gathers_layers_twice_and_the_rest_once(bf16: bool, layer: int) -> None:
    sent = student_traffic(STRATEGIES.get("fsdp2"), MODEL, 4, 3, bf16=bf16)
    # All layers twice, the frozen one for a backward that it does not have (counted in test_wire_measured.py); the rest once, in fp32.
    gathered = 2 * layer * (64 + 1280) + 4 * 1000
    assert sent["weights"] == 3 * gathered * 3 // 4
    assert sent["gradients"] == 3 * (4 * 2180) * 3 // 4


@pytest.mark.parametrize("bf16", [True, False])
def test_zero_sends_in_fp32(bf16: bool) -> None:
    zero2, zero3 = (student_traffic(STRATEGIES.get(name), MODEL, 4, 3, bf16=bf16) for name in ("zero2", "zero3"))
    assert zero2 == {"gradients": 3 * 4 * 2180 * 3 // 4, "weights": 4 * 2180 * 3 // 4}
    # Everything that learns, or that gradients pass, is gathered twice.
    assert zero3 == {"gradients": 3 * 4 * 2180 * 3 // 4, "weights": 3 * 4 * (64 + 2 * 1280 + 2 * 1000) * 3 // 4}


@given(gpus=GPUS, micro=st.integers(1, 16), name=st.sampled_from(["fsdp2", "zero2", "zero3"]))
def test_gradients_are_sent_with_every_micro_batch(gpus: int, micro: int, name: str) -> None:
    one, many = (student_traffic(STRATEGIES.get(name), MODEL, gpus, n, bf16=True) for n in (1, micro))
    assert many["gradients"] == micro * one["gradients"]


def test_one_process_sends_nothing() -> None:
    assert student_traffic(STRATEGIES.get("single"), MODEL, 1, 4, bf16=True) == {}
    assert ring(10**6, 1) == 0


def test_of_the_teacher() -> None:
    whole = MODEL.bytes
    assert teacher_traffic(MODEL, "sharded", 4, 2) == (2 * (whole - 1600) * 3 // 4, 0)
    assert teacher_traffic(MODEL, "offload", 4, 2) == (0, 2 * 5120)
    for placement in ("replicated", "quantized", "served"):
        assert teacher_traffic(MODEL, placement, 4, 2) == (0, 0)


def test_the_slower_link_decides() -> None:
    card = card_named("H100 80 GB")
    inside, across, fast = (Links(card, *where) for where in ((1, 100), (2, 100), (2, 3600)))
    assert inside.sending(450 * 10**9) == pytest.approx(1 / REACHED)
    assert across.sending(100 * 10**9) == pytest.approx(8 / REACHED)  # 100 Gbit/s are 12.5 GB/s
    assert fast.sending(450 * 10**9) == inside.sending(450 * 10**9)
    assert inside.reading(64 * 10**9) == pytest.approx(1 / REACHED)
