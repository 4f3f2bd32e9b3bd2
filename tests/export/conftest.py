"""One fresh process for all exports of a worker: starting it takes longer than an export."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taid_vlm.export.gate import FreshProcess


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcess]:
    """A process that has stock transformers and nothing of ours, but for the tiny models that timm is told of."""
    root = Path(__file__).parents[2]
    with FreshProcess(f"import sys; sys.path.append({str(root)!r}); import tests.tiny.timm_models") as process:
        yield process
