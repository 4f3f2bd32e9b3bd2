"""InternVL2 as it was released (remote code), opened as the stock class that ``taid_vlm.models`` converts it to."""

from pathlib import Path


def as_stock(name: str) -> str:
    """The folder of the converted checkpoint; ``name`` itself where it is none of that layout, or the converting side is absent.

    Raises:
        UserError: a checkpoint of that layout that cannot be converted.
    """
    try:
        from taid_vlm.models.native.internvl2.cached import stock_source
    except ImportError:
        return name
    source = Path(name).expanduser()
    return stock_source(str(source) if source.is_dir() else name)
