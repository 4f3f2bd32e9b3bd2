"""Words of captions, by rules like those of the Penn Treebank tokenizer that COCO's evaluation runs.

That one is a Java program; these are our rules for the same habits: lower-case, words and punctuation apart, "don't" as "do
n't", "dog's" as "dog 's", "cannot" as "can not", hyphenated words, numbers and abbreviations whole, and punctuation then
dropped. Differences are rare words of captions: dates, addresses, emoticons, and fractions stay as white space leaves them.
"""

import re

_TOKEN = re.compile(
    r"""
    (?:[a-z]\.){2,}                                  # u.s.
    | (?:mr|mrs|ms|dr|st|jr|sr|vs|prof|etc|inc|co|corp|ltd|ft|mt|ave|blvd)\.(?=\s|$)
    | \#?[+-]?\d+(?:[.,:/]\d+)*(?:[a-z]+)?           # 1,000  3.5  12:30  1/2  2nd
    | [^\W_]+(?:['’][^\W_]+)*(?:[-_&/](?=[^\W_])[^\W_]+(?:['’][^\W_]+)*)*
    | \.{2,} | -{2,} | '' | `` | \S
    """,
    re.VERBOSE,
)
_SUFFIX = re.compile(r"(.+?)(n['’]t|['’](?:s|m|d|ll|re|ve))")
_JOINED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
}
# What COCO's evaluation drops.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "(", ")", "{", "}", "[", "]", ".", "?", "!", ",", ":", "-", "--", ";", '"']
)


def caption_words(text: str) -> list[str]:
    """The words of a caption that BLEU, CIDEr and ROUGE-L of COCO's evaluation compare."""
    words: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        suffix = _SUFFIX.fullmatch(token)
        if suffix:
            words += [suffix[1], suffix[2].replace("’", "'")]
        elif token in _JOINED:
            words += _JOINED[token]
        elif token not in _PUNCTUATION and not re.fullmatch(r"\.{2,}|-{2,}|[“”‘’]", token):
            words.append(token)
    return words
