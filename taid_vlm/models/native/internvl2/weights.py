"""Weight files read and written a tensor at a time: memory holds one file that is being written, not the model."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.remote_code import NOT_PLAIN
from taid_vlm.models.native.internvl2.tensors import Plan, Shape

SHARD = 1 << 29  # bytes of a file that is written; safetensors holds it twice while it is


class WeightFiles:
    """The tensors of a checkpoint's weight files, safetensors or torch's, in one file or several.

    Raises:
        UserError: no weight files, files that the index names and that are not there, or that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.files = weight_files(folder)
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._where: dict[str, Path] = {}
        self._open: tuple[Path, Any] | None = None
        for file in self.files:
            for name, tensor in self._contents(file):
                self.shapes[name], self.dtypes[name], self._where[name] = tensor[0], tensor[1], file
        self._open = None

    def tensor(self, name: str) -> Tensor:
        """The values, as stored."""
        source = self._opened(self._where[name])
        return source.get_tensor(name) if hasattr(source, "get_tensor") else source[name]

    def in_order(self, names: list[str]) -> list[str]:
        """The names file by file, so that each file is opened once."""
        places = {file: place for place, file in enumerate(self.files)}
        return sorted(names, key=lambda name: places[self._where[name]])

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(math.prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items())

    def _contents(self, file: Path) -> Iterator[tuple[str, tuple[Shape, torch.dtype]]]:
        source = self._opened(file)
        if isinstance(source, dict):
            for name, tensor in source.items():
                yield name, (tuple(tensor.shape), tensor.dtype)
            return
        for name in source.keys():  # noqa: SIM118 (no dict: it is the file)
            cut = source.get_slice(name)
            yield name, (tuple(cut.get_shape()), _DTYPES[cut.get_dtype()])

    def _opened(self, file: Path) -> Any:
        if self._open is None or self._open[0] != file:
            self._open = (file, _open(file))
        return self._open[1]


_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def weight_files(folder: Path) -> list[Path]:
    """Those that an index names, or the only one; safetensors before torch's.

    Raises:
        UserError: none, or one is missing.
    """
    for single in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{single}.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise UserError(
                    f"{index} names {len(names)} weight files, of which {len(missing)} are not there: {missing[:3]}"
                )
            return [folder / name for name in names]
        if (folder / single).is_file():
            return [folder / single]
    raise UserError(
        f"{folder} holds no weights: model.safetensors or pytorch_model.bin, or the index of several, was expected"
    )


def _open(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return safe_open(file, framework="pt")
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)  # no code of a pickle is run
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # of pickles: UnpicklingError, and what a broken one raises
        raise UserError(f"cannot read {file}: {NOT_PLAIN}") from error


def write_weights(
    files: WeightFiles, plan: Plan, folder: Path, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write the native tensors of ``plan`` into ``folder``, with an index where there are several files; dtypes stay as they are."""
    sizes = {native: math.prod(shape) * files.dtypes[name].itemsize for native, (name, _, shape) in plan.items()}
    order = files.in_order([name for name, _, _ in plan.values()])
    place = {name: at for at, name in enumerate(order)}
    shards = _shards(sorted(plan, key=lambda native: place[plan[native][0]]), sizes)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        # A copy: the parts of one matrix may not share its memory in a file.
        tensors = {native: plan[native][1](files.tensor(plan[native][0])).contiguous().clone() for native in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        del tensors
        weight_map.update(dict.fromkeys(names, file))
        progress(sum(sizes[native] for native in names))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _shards(names: list[str], sizes: dict[str, int]) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name in names:
        if shards[-1] and held + sizes[name] > SHARD:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += sizes[name]
    return shards
