"""bf16 only where it is faster, decided by timing."""

import pytest
import torch

from taid_vlm.training import precision


@pytest.mark.parametrize(("bf16", "expected"), [(1.0, "fp32"), (0.85, "fp32"), (0.5, "bf16")])
def test_auto_takes_bf16_where_it_wins_clearly(monkeypatch: pytest.MonkeyPatch, bf16: float, expected: str) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda dtype: bf16 if dtype == torch.bfloat16 else 1.0)
    assert precision.choose_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(precision, "_seconds", None)
    assert precision.choose_precision(asked, torch.device("cpu")) == asked


def test_the_measurement_works_here() -> None:
    assert precision.choose_precision("auto", torch.device("cpu")) in ("bf16", "fp32")


def test_devices_without_a_rule_stay_in_fp32() -> None:
    assert precision.choose_precision("auto", torch.device("meta")) == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_takes_bf16_where_it_is_native() -> None:
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert precision.choose_precision("auto", torch.device("cuda")) == ("bf16" if native else "fp32")
