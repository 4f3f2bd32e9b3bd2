"""All that is found, as one value, and what follows from it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from taid_vlm.doctor.devices import Device, devices
from taid_vlm.doctor.packages import NAME, Extra, Outside, Package, beside, extras, needed, outside
from taid_vlm.doctor.surroundings import Folder, Hub, accelerate_config, folders, hub

LITTLE = 5 * 10**9  # bytes of free disk below which a run of a small student may stop


@dataclass(frozen=True)
class Findings:
    """What the doctor saw.

    Attributes:
        threads: that torch computes with. omp: OMP_NUM_THREADS, as it is set.
        driver: whether NVIDIA's driver is on this machine.
        plug_ins: parts that other packages bring; none was imported.
    """

    python: str
    system: str
    version: str
    needed: tuple[Package, ...]
    extras: tuple[Extra, ...]
    devices: tuple[Device, ...]
    threads: int
    cores: int
    omp: str | None
    driver: bool
    folders: tuple[Folder, ...]
    hub: Hub
    accelerate_config: str | None
    plug_ins: tuple[Outside, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same in plain values, with the verdicts."""
        content = asdict(self)
        for told, extra in zip(content["extras"], self.extras, strict=True):
            told |= {"complete": extra.complete}
        return {**content, "to_do": to_do(self)}


def look(offline: bool = False) -> Findings:
    """Look at everything; some seconds, most of them for importing torch."""
    import torch

    import taid_vlm

    return Findings(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        version=taid_vlm.__version__,
        needed=needed(),
        extras=(*extras(), *beside()),
        devices=devices(),
        threads=torch.get_num_threads(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        omp=os.environ.get("OMP_NUM_THREADS"),
        driver=shutil.which("nvidia-smi") is not None,
        folders=folders(),
        hub=hub(offline),
        accelerate_config=accelerate_config(),
        plug_ins=outside(),
    )


def to_do(found: Findings) -> list[str]:
    """What to do, most urgent first; empty where all is well."""
    return [*_packages(found), *_gpus(found), *_threads(found), *_places(found)]


def _packages(found: Findings) -> Iterator[str]:
    for package in found.needed:
        if not package.fits:
            have = f"is {package.version}" if package.version else "is missing"
            yield f"{package.name} {have}: pip install '{package.name}{package.asked}'"
    if not found.needed:
        yield f"{NAME} is not installed, so its packages cannot be told: pip install -e . in the checkout"


def _gpus(found: Findings) -> Iterator[str]:
    gpus = [device for device in found.devices if device.kind != "cpu"]
    if found.driver and not any(device.kind.startswith("cuda") for device in gpus):
        yield f"there is an NVIDIA driver, but torch sees no GPU: install torch's CUDA build into {sys.prefix}"
    elif not gpus:
        yield "no GPU: runs of the quickstart's size work; taid-vlm plan says what another recipe would need"
    if len(gpus) > 1:
        yield f"{len(gpus)} GPUs: taid-vlm launch uses all of them, taid-vlm train one"
    if not gpus and not found.devices[0].bf16_is_faster:
        yield "bf16 is not faster on this processor: training.precision auto takes fp32; leave it at auto"


def _threads(found: Findings) -> Iterator[str]:
    if found.threads < found.cores and found.omp is None:
        yield f"torch computes with {found.threads} threads of {found.cores} cores: OMP_NUM_THREADS sets more"
    if found.threads > found.cores:
        yield f"torch computes with {found.threads} threads on {found.cores} cores: set OMP_NUM_THREADS={found.cores}"


def _places(found: Findings) -> Iterator[str]:
    for folder in found.folders:
        if folder.free < LITTLE:
            yield f"{folder.free / 1e9:.1f} GB free for {folder.what} ({folder.path}): {HELPS[folder.what]}"
    if found.hub.state == "not reached":
        yield (
            f"{found.hub.address} is not reached ({found.hub.why}): set HF_HUB_OFFLINE=1, so that nothing waits for it, and "
            "name folders in recipes; the quickstart needs the package index alone"
        )


HELPS = {
    "runs": "start runs elsewhere, --output",
    "cache": "set TAID_VLM_CACHE to a larger disk",
    "hub": "set HF_HOME to a larger disk",
}
