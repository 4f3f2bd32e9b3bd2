"""Multiple choice: AI2D, ScienceQA, MMBench, MMStar, SEED-Bench, RealWorldQA, BLINK, MMLU, ARC, HellaSwag.

The truth is a letter ("B" or "(B)"). Modes, by how the letter of the answer is found:

- ``default``: :func:`taid_vlm_eval.metrics.letters.read_letter`.
- ``mmmu``: the rules of MMMU's authors.
- ``vlmevalkit``, ``vlmevalkit-2025-01``: VLMEvalKit without its judge, now and at the time of TAID's table.
- ``lmms``: lmms-eval's extractor of MMStar, RealWorldQA and MMBench.
- ``llava``: LLaVA's rule for ScienceQA.
- ``first-character``: lmms-eval's rule for SEED-Bench.
- ``official``: the answer is the truth, character for character (BLINK's authors, after their matching).

Whatever finds nothing is wrong.
"""

from collections.abc import Callable, Mapping

from taid_vlm_eval.metrics import letters_modes
from taid_vlm_eval.metrics.letters import Options, option_table, read_letter
from taid_vlm_eval.metrics.mmmu import mmmu_letter
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

_READERS: dict[str, Callable[[str, Mapping[str, str]], str | None]] = {
    "mmmu": mmmu_letter,
    "vlmevalkit": letters_modes.vlmevalkit_letter,
    "vlmevalkit-2025-01": lambda answer, table: letters_modes.vlmevalkit_letter(answer, table, at_2025_01=True),
    "lmms": letters_modes.lmms_letter,
    "llava": letters_modes.llava_letter,
    "first-character": letters_modes.first_character,
}
MODES = ("default", *_READERS, "official")


def choice(answer: str, truth: Truth, *, options: Options | None = None, mode: str = "default") -> float:
    """1.0 when the answer means the right letter, else 0.0.

    Args:
        options: texts of the options, as a list (lettered from A) or by letter. Without them the letters are A to H.

    Raises:
        UserError: unknown mode.
    """
    return score_choice(answer, truth, options=options, mode=mode).value


def score_choice(answer: str, truth: Truth, *, options: Options | None = None, mode: str = "default") -> Score:
    """:func:`choice` with how the answer was read, and as what letter."""
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")
    if mode == "official":
        return Score(float(answer in truths_of(truth)), "strict", answer)
    if mode == "default":
        letter, how = read_letter(answer, options)
    else:
        letter = _READERS[mode](answer, option_table(options))
        how = "lenient" if letter else "none"
    right = {one.strip().strip("()").upper() for one in truths_of(truth)}
    return Score(float(letter in right), how, letter)


def choice_or_text(answer: str, truth: Truth, *, options: Options | None = None, mode: str = "default") -> float:
    """RealWorldQA: :func:`choice` where the truth is one of the letters A to D, else equal texts but for case and a full stop.

    Raises:
        UserError: unknown mode.
    """
    return _choice_or_text(answer, truth, options=options, mode=mode).value


def _choice_or_text(answer: str, truth: Truth, *, options: Options | None = None, mode: str = "default") -> Score:
    truths = truths_of(truth)
    if all(one.strip().upper() in ("A", "B", "C", "D") for one in truths):
        return score_choice(answer, truth, options=options or dict.fromkeys("ABCD", ""), mode=mode)
    require_mode(mode, MODES)
    given = answer.strip().lower().rstrip(".")
    if not answer.strip():
        return Score(0.0, "empty")
    return Score(float(given in {one.strip().lower() for one in truths}), "text", given)


_READINGS = ("strict", "lenient", "none", "empty")
SCORERS.register("choice")(
    Scorer(score_choice, _READINGS, closed=True, takes=("options",), modes=MODES, unparsed=("none", "empty"))
)
SCORERS.register("choice_or_text")(
    Scorer(
        _choice_or_text,
        (*_READINGS[:2], "text", *_READINGS[2:]),
        closed=True,
        takes=("options",),
        modes=MODES,
        unparsed=("none", "empty"),
    )
)
