"""Sentences, words and languages for IFEval, by rule.

The benchmark's own script uses a trained splitter of sentences, a tokenizer and a detector of languages that draws random
numbers. These stand in for them without any of it; they agree on plain prose, not on every text.
"""

import re
import unicodedata

_ABBREVIATION = re.compile(
    r"\b(?:mr|mrs|ms|dr|st|jr|sr|prof|vs|etc|inc|ltd|co|e\.g|i\.e|a\.m|p\.m|no|vol|fig|approx|[a-z])\Z", re.I
)
_NUMBERED = re.compile(r"(?:\A|\n)\s{0,8}\d{1,3}\Z")
_END = re.compile(r"[.!?]+[\"'”’)\]*_]{0,4}(?=\s|\Z)|[。！？]+")
_CAPITAL_WORD = re.compile(r"[^\W_]+(?:[-.&/][^\W_]+)*(?:['’][^\W_]+)?")


def count_sentences(text: str) -> int:
    """How many sentences: runs of text that end in a mark before a space, or where the text ends.

    No sentence ends behind an abbreviation or an initial ("Dr.", "J."), behind the number of a list entry, or where the next
    word is in lower case.
    """
    count, start, length = 0, 0, len(text.rstrip())
    for end in _END.finditer(text):
        before = text[max(start, end.start() - 12) : end.start()]
        single = end[0].startswith(".") and not end[0].startswith("..")
        if single and (_ABBREVIATION.search(before) or _NUMBERED.search(before)) and end.end() < length:
            continue
        following = text[end.end() : end.end() + 40].lstrip()
        if following[:1].islower() and end[0][0] not in "。！？":
            continue
        count += bool(text[start : end.end()].strip())
        start = end.end()
    return count + bool(text[start:].strip())


def count_words(text: str) -> int:
    """How many runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", text))


def count_capital_words(text: str) -> int:
    """How many words have capital letters only; "DON'T" and "U.S." are one each."""
    return sum(word.isupper() for word in _CAPITAL_WORD.findall(text))


# The script of a letter, and the languages of IFEval that are written in it.
_SCRIPTS = {
    **{"LATIN": ("en", "es", "fr", "de", "it", "pt", "vi", "fi", "sw", "pl"), "CYRILLIC": ("ru", "bg", "uk")},
    **{"ARABIC": ("ar", "fa", "ur"), "DEVANAGARI": ("hi", "mr", "ne"), "BENGALI": ("bn",), "GURMUKHI": ("pa",)},
    **{"GUJARATI": ("gu",), "TAMIL": ("ta",), "TELUGU": ("te",), "KANNADA": ("kn",), "MALAYALAM": ("ml",)},
    **{"THAI": ("th",), "HANGUL": ("ko",), "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "HEBREW": ("he",), "CJK": ("zh",)},
}
# Frequent words, and after the bar letters that only one of the languages of its script has.
_SIGNS = {
    "en": "the of and to in is that it for was on are with as be this have you not or",
    "es": "el los las de que y en un una es por con para del se su como más pero está|ñ¿¡",
    "fr": "le les des et un une est que qui dans pour pas sur avec vous je nous ce au du|êœùûîç",
    "de": "der die das und ist nicht ein eine zu den mit von auf für im sich dem ich wir auch|ßü",
    "it": "il di che è non un una per sono con gli della del i più nel alla anche questo|ìò",
    "pt": "o os as de que e em um uma não para com por do da se mais como mas ao|ãõ",
    "vi": "và là của có không được cho một những với trong người này các tôi đã|ăđơưạảấầẩậắằặẹẻẽếềệịọỏốồổộớờợụủứừửữựỳỵỷỹ",
    "fi": "ja on ei se että hän oli mutta kun niin myös tai ovat ole joka minä sinä|",
    "sw": "na ya wa kwa ni katika la za cha yake hii kama au hiyo watu kuwa lakini sana|",
    "pl": "i w nie na się jest to że z do jak ale co dla od po czy|łąęśćźżń",
    "ru": "и в не на что я с он как это по но они мы к у же для|ыэё",
    "bg": "и на да се в не е за от че по са това като с но при която|ъ",
    "uk": "і в не на що з та як це до але вони ми у для є|іїєґ",
    "ar": "في من على أن إلى هذا التي الذي عن كان هو لا ما مع|ةىإأ",
    "fa": "و در به از که این را با است برای آن یک های می شود|پژچگ",
    "ur": "اور کے میں کی ہے سے کا کو نے پر ہیں یہ ایک کہ|ٹڈڑںےھہ",
    "hi": "है के में की और से का को हैं पर यह एक नहीं कि ने|",
    "mr": "आहे आणि च्या ला नाही हे तो ती आहेत या एक होते मी|ळ",
    "ne": "छ र को मा लाई छन् गर्न हो पनि यो एक भएको गरेको|",
}


def detect_language(text: str) -> str | None:
    """The ISO 639-1 code of the language a text is in, None where it has no letters.

    The script of most letters decides; where several languages share it, frequent words and letters of their own. It knows
    the languages of IFEval and takes any other for the likeliest of these.
    """
    text = unicodedata.normalize("NFC", text[:20_000]).lower()
    counts: dict[str, int] = {}
    for letter in filter(str.isalpha, text):
        script = unicodedata.name(letter, "?").split(" ")[0]
        counts[script] = counts.get(script, 0) + 1
    if not counts:
        return None
    # Japanese mixes kana and Chinese characters.
    if counts.get("HIRAGANA", 0) + counts.get("KATAKANA", 0) > 0.1 * sum(counts.values()):
        return "ja"
    languages = _SCRIPTS.get(max(sorted(counts), key=lambda script: counts[script]), ())
    if len(languages) < 2:
        return languages[0] if languages else "?"
    words = re.findall(r"[^\W\d_]+(?:[\u0900-\u097f]+)*", text)
    return max(languages, key=lambda language: _likeness(language, words, text))


def _likeness(language: str, words: list[str], text: str) -> float:
    frequent, _, own = _SIGNS[language].partition("|")
    known = set(frequent.split())
    hits = sum(word in known for word in words) / max(1, len(words))
    return hits + 3 * sum(text.count(letter) for letter in own) / max(1, len(text))
