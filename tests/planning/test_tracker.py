"""The counter of live storages, on graphs whose memory can be worked out by hand."""

import pytest
import torch
from torch import nn

from taid_vlm.planning.fake import fake_mode, make_fake
from taid_vlm.planning.tracker import LiveStorages

KIB = 256  # elements of fp32


def test_what_is_dropped_is_no_longer_live() -> None:
    tracker = LiveStorages()
    with fake_mode(), tracker:
        first = torch.empty(KIB)
        second = first + 1
        assert tracker.live == {"other": 2048}
        del first
        assert tracker.live == {"other": 1024}
        third = second.view(16, 16)[:4]  # the same storage
        del second
        assert tracker.live == {"other": 1024}
        del third
    assert tracker.live == {"other": 0}
    assert tracker.peak == 2048


def test_storages_keep_their_label_and_can_be_moved() -> None:
    tracker = LiveStorages()
    with fake_mode() as mode:
        outside = torch.empty(KIB)
    tracker.hold([outside, outside.view(2, 128)], "weights")
    with mode, tracker, tracker.label("made"):
        made = outside * 2
    assert tracker.live == {"weights": 1024, "made": 1024}
    tracker.hold([made], "kept")
    assert tracker.live == {"weights": 1024, "made": 0, "kept": 1024}


def test_activations_are_held_until_the_backward() -> None:
    tracker = LiveStorages()
    with fake_mode(), tracker:
        weight = torch.empty(16, 16, requires_grad=True)  # 1 KiB
        x = torch.empty(64, 16)  # 4 KiB
        hidden = (x @ weight).relu()  # relu keeps its result, the product goes
        out = (hidden @ weight).sum()
        del hidden
        assert tracker.live["other"] == 1024 + 4096 + 4096 + 4
        out.backward()
        del out
        assert tracker.live["other"] == 1024 + 4096 + 1024  # weight, x, gradient
    # At the product before the relu, and again at the second one: weight, x and two more.
    assert tracker.peak >= 1024 + 3 * 4096
    # Two products forward; backward one for the first (x does not learn) and two for the second.
    assert tracker.flops == 5 * 2 * 64 * 16 * 16


def test_frozen_weights_save_nothing() -> None:
    peaks = []
    for learns in (False, True):
        layers = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.GELU()) for _ in range(8))).to("meta")
        layers.requires_grad_(learns)
        mode, tracker = fake_mode(), LiveStorages()
        make_fake(layers, mode)
        tracker.hold(layers.parameters(), "weights")
        with mode, tracker, tracker.label("made"):
            layers(torch.empty(64, 16))
        peaks.append(tracker.at_peak["made"])
    assert peaks[0] <= 4 * 4096 < 16 * 4096 <= peaks[1]


def test_ties_stay_ties() -> None:
    embedding, head = nn.Embedding(10, 4, device="meta"), nn.Linear(4, 10, bias=False, device="meta")
    head.weight = embedding.weight
    both = nn.ModuleList([embedding, head])
    make_fake(both, fake_mode())
    assert head.weight is embedding.weight
    assert head.weight.requires_grad


@pytest.mark.parametrize("answer", [True, 7])
def test_values_are_asked_for(answer: bool | int) -> None:
    with fake_mode(), LiveStorages(lambda tensor: answer):
        assert torch.empty(1, dtype=torch.bool if answer is True else torch.long).item() == answer


def test_autocast_is_honoured() -> None:
    sizes = {}
    for bf16 in (False, True):
        with fake_mode(), LiveStorages() as tracker:
            weight, x = torch.empty(16, 16), torch.empty(64, 16)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                product = x @ weight
            sizes[bf16] = tracker.live["other"] - weight.nbytes - x.nbytes
            assert product.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert sizes == {False: 4096, True: 2048}
