"""VQA accuracy: VQAv2, OK-VQA, VizWiz, TextVQA.

Ten people answered each question. An answer that three or more of them gave is right; so that an annotator can be scored too, it
is compared with each nine of the ten, and the mean is taken: 1, 2, 3, 4 equal human answers give 0.3, 0.6, 0.9, 1.
Antol et al., arXiv:1505.00468; Goyal et al., arXiv:1612.00837.

Modes, which differ in how texts are made comparable:

- ``evalai``: the EvalAI processor on both sides, always (TextVQA, VizWiz, OK-VQA).
- ``official``: the script of VQAv2. It prepares texts *only where the ten answers are not all equal*, so that "Yes" against
  ten "yes" scores 0.
- ``evalai-official``: the EvalAI processor on the answer, then the official script: what published VQAv2 numbers of
  vision-language models are made with.
- ``vlmevalkit``, ``vlmevalkit-2025-01``: the official preparation, always; the newer one keeps the period of "3.".
"""

from collections.abc import Callable

from taid_vlm_eval.metrics import vqa_words
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("evalai", "official", "evalai-official", "vlmevalkit", "vlmevalkit-2025-01")
_ALWAYS: dict[str, Callable[[str], str]] = {
    "evalai": vqa_words.evalai_answer,
    "vlmevalkit": vqa_words.vlmevalkit_answer,
    "vlmevalkit-2025-01": lambda text: vqa_words.vlmevalkit_answer(text, repaired=False),
}


def _prepare(answer: str, truths: list[str], mode: str) -> tuple[str, list[str]]:
    if mode in _ALWAYS:
        return _ALWAYS[mode](answer), [_ALWAYS[mode](one) for one in truths]
    if mode == "evalai-official":
        answer = vqa_words.evalai_answer(answer)
    answer, truths = vqa_words.one_line(answer), [vqa_words.one_line(one) for one in truths]
    if len(set(truths)) > 1:
        return vqa_words.official_answer(answer), [vqa_words.official_answer(one) for one in truths]
    return answer, truths


def vqa_accuracy(answer: str, truth: Truth, *, mode: str = "evalai") -> float:
    """VQA accuracy of one answer in [0, 1]; the benchmark's figure is the mean.

    Args:
        truth: the answers of the annotators. A single one (a set without annotators) is right or wrong.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, mode=mode).value


def _score(answer: str, truth: Truth, *, mode: str = "evalai") -> Score:
    require_mode(mode, MODES)
    given, humans = _prepare(answer, truths_of(truth), mode)
    same = humans.count(given)
    if len(humans) < 2:
        value = float(same)
    else:
        # Left out is one of the equal answers, or one of the others.
        value = (same * min(1.0, (same - 1) / 3) + (len(humans) - same) * min(1.0, same / 3)) / len(humans)
    return Score(value, "text" if answer.strip() else "empty", given or None)


SCORERS.register("vqa_accuracy")(Scorer(_score, readings=("text", "empty"), closed=True, modes=MODES))
