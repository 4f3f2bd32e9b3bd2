"""What ``taid-vlm doctor`` prints."""

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taid_vlm.common.progress import waiting
from taid_vlm.doctor.findings import Findings, look, to_do
from taid_vlm.doctor.packages import Extra


def examine(*, offline: bool = False, as_json: bool = False) -> None:
    """Look, and print it.

    Args:
        offline: do not try to reach the hub.
        as_json: print what was found as JSON, and nothing else.
    """
    with waiting("trying devices, kernels and the hub"):
        found = look(offline)
    print(json.dumps(found.to_json(), indent=2)) if as_json else show(found)


def show(found: Findings) -> None:
    """Print it for people: what is there, and at the end what to do."""
    console = Console(highlight=False)
    told = ", ".join(f"{one.name} {one.version}" for one in found.needed if one.name in SHOWN and one.version)
    console.print(f"taid-vlm {found.version}, Python {found.python}, {found.system}: {told}", soft_wrap=True)
    console.print(_devices(found))
    omp = f", OMP_NUM_THREADS={found.omp}" if found.omp is not None else ""
    console.print(f"threads of torch: {found.threads} on {found.cores} cores{omp}")
    for folder in found.folders:
        size = f"{'' if folder.counted else 'more than '}{folder.size / 1e9:.2f} GB"
        line = f"{folder.what}: {size} in {folder.path}, {folder.free / 1e9:.1f} GB free on its disk"
        console.print(Text(line), soft_wrap=True)
    why = f" ({found.hub.why})" if found.hub.why else ""
    console.print(Text(f"model hub: {found.hub.address} {found.hub.state}{why}"), soft_wrap=True)
    config = found.accelerate_config or "none; taid-vlm launch needs none, and --config names the shipped ones"
    console.print(Text(f"accelerate config: {config}"), soft_wrap=True)
    console.print(_extras(found.extras))
    told = "; ".join(f"{one.kind} {one.name} ({one.package} {one.version})" for one in found.plug_ins)
    console.print(Text(f"plug-ins: {told or 'none (docs/plug-ins.md)'}"), soft_wrap=True)
    lines = to_do(found)
    console.print("[bold]What to do[/bold]" if lines else "[bold]Nothing to do[/bold]")
    for line in lines:
        console.print(Text(f"  - {line}"), soft_wrap=True)


SHOWN = ("torch", "torchvision", "transformers", "timm", "open_clip_torch", "datasets", "accelerate", "peft")


def _devices(found: Findings) -> Table:
    table = Table("device", "memory (free)", "fp32", "bf16", "attention kernels, bf16")
    for device in found.devices:
        memory = "unknown"
        if device.memory is not None and device.free is not None:
            memory = f"{device.memory / 2**30:.1f} GiB ({device.free / 2**30:.1f})"
        speeds = (_speed(device.fp32), _speed(device.bf16))
        table.add_row(f"{device.kind}: {device.name}", memory, *speeds, ", ".join(device.attention) or "none")
    return table


def _speed(gflops: float | None) -> str:
    return "does not run" if gflops is None else f"{gflops:,.0f} GFLOP/s"


def _extras(extras: tuple[Extra, ...]) -> Table:
    table = Table("optional", "here", "gives")
    for extra in extras:
        lacking = [package.name for package in extra.packages if not package.fits]
        here = "yes" if extra.complete else f"no: {', '.join(lacking)}"
        table.add_row(Text(extra.name), Text(here), Text(extra.gives))
    return table
