"""How short answers are made comparable in VQA accuracy: punctuation, digits, articles, contractions.

The rules are those of the benchmark's own evaluation (Antol et al., arXiv:1505.00468), their slips included, for a score
that forgives more would not be the one people publish. Each is noted where it stands.
"""

import re

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = ("a", "an", "the")

# Words with an apostrophe; each is found also with one apostrophe missing ("dont", "couldnt've", "couldn'tve").
# Not here: "I'm" and its kin, for the official keys are capitals while the text is lower-case by then.
_WHOLE = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _WHOLE.split()
    for place in (match.start() for match in re.finditer("'", word))
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the official table has this one the wrong way round

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_STRAY_PERIOD = re.compile(r"\.(?!\d)")
_STRAY_PERIOD_BESIDE_NO_DIGIT = re.compile(r"(?<!\d)\.(?!\d)")
# The official script hands a flag of the regular expression to where the number of replacements belongs.
_OFFICIAL_PERIODS = int(re.UNICODE)


def strip_punctuation(text: str, *, keep_after_digit: bool = False) -> str:
    """Delete or blank punctuation, and drop periods that no digit follows.

    A mark is deleted where it stands beside a space anywhere in the text, or where the text holds a digit, comma, digit;
    else it becomes a space. Periods: "3." becomes "3" while ".5" stays, and at most 32 of them go; with ``keep_after_digit``
    (VLMEvalKit's repair) "3." stays too.
    """
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    made = text
    for mark in _PUNCTUATION:
        beside_space = mark + " " in text or " " + mark in text
        made = made.replace(mark, "" if beside_space or in_number else " ")
    period = _STRAY_PERIOD_BESIDE_NO_DIGIT if keep_after_digit else _STRAY_PERIOD
    return period.sub("", made, count=_OFFICIAL_PERIODS)


def plain_words(text: str) -> str:
    """Lower-cased, with digits for number words, without articles, with apostrophes put back."""
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def one_line(text: str) -> str:
    """Line ends and tabs as spaces, stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def official_answer(text: str) -> str:
    """An answer as the official script compares it when the annotators disagree."""
    return plain_words(strip_punctuation(one_line(text)))


def evalai_answer(text: str) -> str:
    """An answer as the EvalAI processor (TextVQA, VizWiz, OK-VQA) makes it: "red,white" is "redwhite"."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return plain_words(strip_punctuation(one_line(text)))


def vlmevalkit_answer(text: str, *, repaired: bool = True) -> str:
    """An answer as VLMEvalKit makes it; ``repaired`` is its rule for periods since 2025."""
    return plain_words(strip_punctuation(one_line(text), keep_after_digit=repaired))
