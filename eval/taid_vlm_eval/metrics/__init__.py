"""Scorers, the figures made of them, and their error bars: pure Python and numpy.

No torch, no network, nothing random but a seeded bootstrap, and no state between two evaluations. ``docs/metrics.md`` defines each.
"""

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored
from taid_vlm_eval.metrics.anls import anls
from taid_vlm_eval.metrics.captions import caption_rouge_l, captions
from taid_vlm_eval.metrics.categories import accuracy_by_category, circular, mean_of_categories
from taid_vlm_eval.metrics.charts import relaxed_accuracy
from taid_vlm_eval.metrics.choice import choice, choice_or_text
from taid_vlm_eval.metrics.cider import cider_scores
from taid_vlm_eval.metrics.continuation import continuation
from taid_vlm_eval.metrics.divergence import divergence
from taid_vlm_eval.metrics.exact_match import exact_match, match_kind, normalise
from taid_vlm_eval.metrics.gqa import gqa_match
from taid_vlm_eval.metrics.gsm8k import gsm8k
from taid_vlm_eval.metrics.hallusion import hallusion_bench
from taid_vlm_eval.metrics.ifeval import ifeval, instructions_followed
from taid_vlm_eval.metrics.intervals import bootstrap_interval, wilson_interval
from taid_vlm_eval.metrics.judged import mm_vet_grade, mt_bench_rating
from taid_vlm_eval.metrics.letters import read_letter
from taid_vlm_eval.metrics.likelihood import likeliest
from taid_vlm_eval.metrics.mathvista import mathvista_rule
from taid_vlm_eval.metrics.mme import mme
from taid_vlm_eval.metrics.mmmu import mmmu_match
from taid_vlm_eval.metrics.ocrbench import ocrbench
from taid_vlm_eval.metrics.pope import pope
from taid_vlm_eval.metrics.rouge import rouge_l
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer
from taid_vlm_eval.metrics.vqa import vqa_accuracy
from taid_vlm_eval.metrics.yes_no import read_yes_no, yes_no

__all__ = [
    "METRICS",
    "SCORERS",
    "Estimate",
    "Score",
    "Scored",
    "Scorer",
    "accuracy_by_category",
    "anls",
    "bootstrap_interval",
    "caption_rouge_l",
    "captions",
    "choice",
    "choice_or_text",
    "cider_scores",
    "circular",
    "continuation",
    "divergence",
    "exact_match",
    "gqa_match",
    "gsm8k",
    "hallusion_bench",
    "ifeval",
    "instructions_followed",
    "likeliest",
    "match_kind",
    "mathvista_rule",
    "mean_of_categories",
    "mm_vet_grade",
    "mme",
    "mmmu_match",
    "mt_bench_rating",
    "normalise",
    "ocrbench",
    "pope",
    "read_letter",
    "read_yes_no",
    "relaxed_accuracy",
    "rouge_l",
    "vqa_accuracy",
    "wilson_interval",
    "yes_no",
]
