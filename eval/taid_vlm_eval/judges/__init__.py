"""Judges: models that read answers, where no rule could or where one found nothing. Only by explicit choice."""

from taid_vlm_eval.judges import choice, mathvista, mm_vet, mt_bench, yes_no  # noqa: F401 (they register prompts)
from taid_vlm_eval.judges.judge import JUDGES, Judge, open_judge
from taid_vlm_eval.judges.judgements import Judgements, prompt_of
from taid_vlm_eval.judges.judging import judged, kept_judgements
from taid_vlm_eval.judges.prompts import PROMPTS, Grader, Reader
from taid_vlm_eval.metrics.judged import NothingReadError

__all__ = [
    "JUDGES",
    "PROMPTS",
    "Grader",
    "Judge",
    "Judgements",
    "NothingReadError",
    "Reader",
    "judged",
    "kept_judgements",
    "open_judge",
    "prompt_of",
]
