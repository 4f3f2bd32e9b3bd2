"""Data: sources of conversations, rendering for both models, pairing of answer rows, batches."""

from taid_vlm.data.batches import Join, PreparedRecords, StepOrder, make_loader
from taid_vlm.data.collate import PairedBatch, dropped_by_reason
from taid_vlm.data.images import open_image
from taid_vlm.data.pairing import Pair, Pairer
from taid_vlm.data.record import REASONS, BadSampleError, Broken, Record
from taid_vlm.data.sources import SOURCES, read_records

__all__ = [
    "REASONS",
    "SOURCES",
    "BadSampleError",
    "Broken",
    "Join",
    "Pair",
    "PairedBatch",
    "Pairer",
    "PreparedRecords",
    "Record",
    "StepOrder",
    "dropped_by_reason",
    "make_loader",
    "open_image",
    "read_records",
]
