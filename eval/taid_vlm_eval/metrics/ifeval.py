"""IFEval: were the instructions in the prompt followed (Zhou et al., arXiv:2311.07911)?

*Strict*: the answer as it stands. *Loose*: also without its first line, its last line, both, and without asterisks. An
empty answer follows nothing. The truth of an item is not looked at; its facts ``instruction_id_list`` and ``kwargs`` say
what to check, as in the benchmark's data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure, with_named
from taid_vlm_eval.metrics.ifeval_checks import CHECKS
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode

MODES = ("strict", "loose")


def _versions(answer: str, mode: str) -> list[str]:
    if mode == "strict":
        return [answer]
    lines = answer.split("\n")
    texts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return texts + [text.replace("*", "") for text in texts]


def instructions_followed(
    answer: str, instruction_id_list: Sequence[str], kwargs: Sequence[Mapping[str, Any]], *, mode: str = "strict"
) -> list[bool]:
    """For each instruction, whether the answer follows it.

    Args:
        instruction_id_list: names such as "punctuation:no_comma".
        kwargs: the arguments of each; entries that are None are as good as missing.

    Raises:
        UserError: an unknown instruction or mode, a missing argument, or not as many arguments as instructions.
    """
    require_mode(mode, MODES)
    texts = [text for text in _versions(answer, mode) if text.strip()]
    checks = [CHECKS.get(name) for name in instruction_id_list]
    return [any(check(text, given) for text in texts) for check, given in zip(checks, kwargs, strict=True)]


def ifeval(
    answer: str,
    truth: Truth = "",
    *,
    instruction_id_list: Sequence[str] = (),
    kwargs: Sequence[Mapping[str, Any]] = (),
    mode: str = "strict",
) -> float:
    """1.0 when the answer follows all instructions, else 0.0.

    Raises:
        UserError: as :func:`instructions_followed`.
    """
    return _score(answer, truth, instruction_id_list=instruction_id_list, kwargs=kwargs, mode=mode).value


def _score(
    answer: str,
    truth: Truth = "",
    *,
    instruction_id_list: Sequence[str] = (),
    kwargs: Sequence[Mapping[str, Any]] = (),
    mode: str = "strict",
) -> Score:
    followed = instructions_followed(answer, instruction_id_list, kwargs, mode=mode)
    if not answer.strip():
        return Score(0.0, "empty")
    return Score(float(all(followed)), "text", f"{sum(followed)} of {len(followed)}")


SCORERS.register("ifeval")(
    Scorer(_score, readings=("text", "empty"), closed=False, takes=("instruction_id_list", "kwargs"), modes=MODES)
)


@METRICS.register("ifeval")
def ifeval_accuracies(scored: Sequence[Scored], seed: int) -> Estimate:
    """The share of prompts whose instructions are all followed, strictly.

    Named: ``prompt_strict``, ``instruction_strict`` (of all instructions), ``prompt_loose`` and ``instruction_loose``.
    """
    columns_NK = np.zeros((len(scored), 6))
    for place, one in enumerate(scored):
        names, kwargs = one.facts.get("instruction_id_list", ()), one.facts.get("kwargs", ())
        strict, loose = (instructions_followed(one.answer, names, kwargs, mode=mode) for mode in MODES)
        full = float(bool(one.answer.strip()))
        columns_NK[place] = [all(strict) * full, all(loose) * full, 1, sum(strict), sum(loose), len(names)]
    figures = {"prompt_strict": mean_figure(0, 2), "prompt_loose": mean_figure(1, 2)}
    if columns_NK[:, 5].any():
        figures |= {"instruction_strict": mean_figure(3, 5), "instruction_loose": mean_figure(4, 5)}
    clusters = clusters_of(scored)
    return with_named("prompt_strict", estimate_figures(figures, columns_NK.T, clusters, seed=seed))
