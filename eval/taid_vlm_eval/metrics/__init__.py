"""Scorers, the figures made of them, and their error bars: pure Python and numpy.

No torch, no network, nothing random but a seeded bootstrap, and no state between two evaluations.
"""

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored
from taid_vlm_eval.metrics.exact_match import exact_match, match_kind, normalise
from taid_vlm_eval.metrics.intervals import bootstrap_interval, wilson_interval
from taid_vlm_eval.metrics.rouge import rouge_l
from taid_vlm_eval.metrics.scorers import SCORERS, Score, Scorer

__all__ = [
    "METRICS",
    "SCORERS",
    "Estimate",
    "Score",
    "Scored",
    "Scorer",
    "bootstrap_interval",
    "exact_match",
    "match_kind",
    "normalise",
    "rouge_l",
    "wilson_interval",
]
