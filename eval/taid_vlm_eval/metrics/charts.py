"""Relaxed accuracy, the metric of ChartQA.

A number may be off by 5 % of the right one; any other answer must be equal but for case. "12%" is 0.12. Masry et al., ChartQA,
arXiv:2203.10244, section 5.1, after Methani et al., PlotQA, arXiv:1909.00997.

Modes:

- ``default``: strict, by the definition above; then lenient, where an introduction ("The answer is"), wrapping marks, commas at
  the thousands and a currency sign are read over. Lenient never changes a value: "12" is not "12%", and a word beside the
  number ("12 million", "12 apples") makes it a text. Zero is equal to zero however it is written.
- ``official``: the definition as pix2struct, VLMEvalKit and lmms-eval code it. A right answer of zero is compared as text
  there, and whatever Python takes for a number is one: "nan", "1_000", full-width digits.
"""

from collections.abc import Callable

from taid_vlm_eval.metrics.exact_match import normalise, unwrap
from taid_vlm_eval.metrics.numerals import plain_number, written_number
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("default", "official")
TOLERANCE = 0.05


def relaxed_accuracy(answer: str, truth: Truth, *, mode: str = "default") -> float:
    """1.0 when the answer is close to one of the right ones, else 0.0.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, mode=mode).value


def _score(answer: str, truth: Truth, *, mode: str = "default") -> Score:
    require_mode(mode, MODES)
    truths = truths_of(truth)
    text = answer.strip()
    if not text:
        return Score(0.0, "empty")
    if any(_official(text, one) if mode == "official" else _strict(text, one) for one in truths):
        return Score(1.0, "strict", text)
    lenient = unwrap(answer)
    if mode == "default" and lenient and any(_lenient(lenient, one) for one in truths):
        return Score(1.0, "lenient", lenient)
    return Score(0.0, "none", text)


def _official(answer: str, truth: str) -> bool:
    given, wanted = _python_number(answer), _python_number(truth)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= TOLERANCE
    return answer.lower() == truth.lower()


def _python_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _strict(answer: str, truth: str) -> bool:
    truth = truth.strip()
    close = _close(_share(answer, plain_number), _share(truth, plain_number))
    return answer.lower() == truth.lower() if close is None else close


def _lenient(answer: str, truth: str) -> bool:
    close = _close(_share(answer, written_number), _share(truth.strip(), written_number))
    return answer == normalise(truth) if close is None else close


def _share(text: str, number: Callable[[str], float | None]) -> float | None:
    if not text.endswith("%"):
        return number(text)
    percent = number(text[:-1])
    return None if percent is None else percent / 100


def _close(given: float | None, wanted: float | None) -> bool | None:
    """Whether two numbers are close; None when one is missing."""
    if given is None or wanted is None:
        return None
    return abs(given - wanted) <= TOLERANCE * abs(wanted) * (1 + 1e-12)


SCORERS.register("relaxed_accuracy")(
    Scorer(_score, readings=("strict", "lenient", "none", "empty"), closed=False, modes=MODES)
)
