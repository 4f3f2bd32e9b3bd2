"""Rules of single benchmarks that the keys of a task cannot say; one file each, filed under its name.

A layout gets the rows of the task's data and the other tables of the data set, and gives rows.
"""

from taid_vlm_eval.data.layouts import (
    arc,
    blink,
    capitalised,
    circular,
    gqa,
    hallusion_tsv,
    hellaswag,
    lambada,
    mmlu_5_shot,
    mmmu,
    ultrachat,
    without_yes_no,
)
from taid_vlm_eval.data.layouts.registry import LAYOUTS, Layout, OpenTable

__all__ = [
    "LAYOUTS",
    "Layout",
    "OpenTable",
    "arc",
    "blink",
    "capitalised",
    "circular",
    "gqa",
    "hallusion_tsv",
    "hellaswag",
    "lambada",
    "mmlu_5_shot",
    "mmmu",
    "ultrachat",
    "without_yes_no",
]
