"""IFEval: each instruction followed and not, strict and loose, and the four accuracies."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval.metrics import METRICS, SCORERS, Scored, ifeval, instructions_followed
from taid_vlm_eval.metrics.ifeval_checks import CHECKS
from taid_vlm_eval.metrics.ifeval_text import count_capital_words, count_sentences, count_words, detect_language

LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}

CASES: list[tuple[str, dict[str, Any], str, bool]] = [
    ("keywords:existence", {"keywords": ["dog", "cat"]}, "A Dog and a CATfish", True),
    ("keywords:existence", {"keywords": ["dog", "cat"]}, "A dog", False),
    ("keywords:existence", {"keywords": ["c++ ("]}, "I like C++ (a lot)", True),
    ("keywords:frequency", {"keyword": "dog", "frequency": 2, **LEAST}, "dog, Dogs", True),
    ("keywords:frequency", {"keyword": "dog", "frequency": 2, **LEAST}, "dog", False),
    ("keywords:frequency", {"keyword": "dog", "frequency": 2, **LESS}, "dog", True),
    ("keywords:frequency", {"keyword": "dog", "frequency": 2, **LESS}, "dog dog", False),
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "hotdog", True),
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "a DOG.", False),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, "eEe", True),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 3, "let_relation": "at least"}, "ee", False),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 3, "let_relation": "less than"}, "ee", True),
    ("language:response_language", {"language": "en"}, "This is the house of my father and it is old.", True),
    ("language:response_language", {"language": "de"}, "This is the house of my father and it is old.", False),
    ("language:response_language", {"language": "de"}, "Das ist das Haus von meinem Vater und es ist alt.", True),
    ("language:response_language", {"language": "de"}, "123", True),  # no letters: taken as followed
    ("length_constraints:number_sentences", {"num_sentences": 2, **LEAST}, "One here. Two here.", True),
    ("length_constraints:number_sentences", {"num_sentences": 3, **LEAST}, "Dr. J. Smith left. Why? no.", False),
    ("length_constraints:number_sentences", {"num_sentences": 2, **LESS}, "Only one", True),
    ("length_constraints:number_words", {"num_words": 3, **LEAST}, "one two three", True),
    ("length_constraints:number_words", {"num_words": 3, **LESS}, "one two three", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb\n***", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\n***\nb", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\nb", False),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Two"},
     "one\n\n\"Two, he said", True),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
     "one\n\ntwos", False),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "one"},
     "one\n\ntwo\n\nthree", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [[city]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [city", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye\np. s. more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye\nps more", False),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S: more", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b\n**c**", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b\n- c", False),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", True),
    ("detectable_format:constrained_response", {}, "Maybe.", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "**a**", True),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, "Section 1 a\nSection 2 b", True),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 1}, "Section 1 a", False),
    ("detectable_format:json_format", {}, "```json\n{\"a\": 1}\n```", True),
    ("detectable_format:json_format", {}, "{a: 1}", False),
    ("detectable_format:title", {}, "<<A title>>\ntext", True),
    ("detectable_format:title", {}, "<<>> or << \n>>", False),
    ("combination:two_responses", {}, "one\n******\ntwo", True),
    ("combination:two_responses", {}, "one ****** one", False),
    ("combination:two_responses", {}, "one ****** two ****** three", False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. Fine.", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Fine. Say it.", False),
    ("startend:end_checker", {"end_phrase": "The end."}, "well, the end.\"\n", True),
    ("startend:end_checker", {"end_phrase": "The end."}, "The end. Or not.", False),
    ("startend:quotation", {}, ' "so" ', True),
    ("startend:quotation", {}, '"', False),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "A BIG dog", True),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "A BIG dog", False),
    ("change_case:english_capital", {}, "THIS IS THE HOUSE OF MY FATHER", True),
    ("change_case:english_capital", {}, "THIS IS THE HOUSE of MY FATHER", False),
    ("change_case:english_capital", {}, "DAS IST DAS HAUS UND ES IST NICHT ALT", False),
    ("change_case:english_lowercase", {}, "this is the house of my father", True),
    ("change_case:english_lowercase", {}, "This is the house of my father", False),
    ("punctuation:no_comma", {}, "no comma; none", True),
    ("punctuation:no_comma", {}, "one, two", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "answer", "followed"), CASES)
def test_each_instruction(name: str, arguments: dict[str, Any], answer: str, followed: bool) -> None:
    assert instructions_followed(answer, [name], [arguments]) == [followed]
    # Other entries of the data are None there.
    assert ifeval(answer, instruction_id_list=[name], kwargs=[{**arguments, "other": None}]) == float(followed)


def test_every_instruction_has_a_case_that_follows_and_one_that_does_not() -> None:
    assert len(set(CHECKS)) == 25
    for followed in (True, False):
        assert {name for name, _, _, right in CASES if right == followed} == set(CHECKS)


@pytest.mark.parametrize(
    ("answer", "name", "arguments"),
    [
        ("Sure, here it is:\nno comma", "punctuation:no_comma", {}),
        ("no comma\nHope it helps, bye", "punctuation:no_comma", {}),
        ("Sure, here:\nno comma\nHope, bye", "punctuation:no_comma", {}),
        ("**the end.**", "startend:end_checker", {"end_phrase": "the end."}),
    ],
)
def test_loose_forgives_first_and_last_lines_and_asterisks(answer: str, name: str, arguments: dict[str, Any]) -> None:
    assert instructions_followed(answer, [name], [arguments]) == [False]
    assert instructions_followed(answer, [name], [arguments], mode="loose") == [True]


@given(st.text(max_size=60), st.sampled_from(CASES))
def test_whatever_is_followed_strictly_is_followed_loosely(
    answer: str, case: tuple[str, dict[str, Any], str, bool]
) -> None:
    strict, loose = (
        ifeval(answer, instruction_id_list=[case[0]], kwargs=[case[1]], mode=m) for m in ("strict", "loose")
    )
    assert strict <= loose


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_follows_nothing(answer: str) -> None:
    score = SCORERS.get("ifeval").score(answer, "", instruction_id_list=["punctuation:no_comma"], kwargs=[{}])
    assert (score.value, score.how) == (0.0, "empty")


def test_the_four_accuracies() -> None:
    ids, kwargs = ["punctuation:no_comma", "startend:quotation"], [{}, {}]
    answers = ['"both"', "one", "a, b", 'Sure, so:\n"both"', ""]
    scored = [
        Scored(str(i), str(i), answer, "", 0.0, facts={"instruction_id_list": ids, "kwargs": kwargs})
        for i, answer in enumerate(answers)
    ]
    named = {name: one.value for name, one in METRICS.get("ifeval")(scored, 0).named.items()}
    expected = {
        "prompt_strict": 1 / 5,
        "prompt_loose": 2 / 5,
        "instruction_strict": 3 / 10,
        "instruction_loose": 5 / 10,
    }
    assert named == pytest.approx(expected)
    assert METRICS.get("ifeval")(scored, 0).value == pytest.approx(1 / 5)


def test_records_that_cannot_be_checked_are_refused() -> None:
    with pytest.raises(UserError, match="unknown instruction 'punctuation:no_commas': did you mean"):
        instructions_followed("a", ["punctuation:no_commas"], [{}])
    with pytest.raises(UserError, match="lacks 'num_words'"):
        instructions_followed("a", ["length_constraints:number_words"], [{"relation": "at least"}])
    with pytest.raises(UserError, match="relation 'at most'"):
        instructions_followed("a", ["length_constraints:number_words"], [{"relation": "at most", "num_words": 3}])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("one", 1),
        ("One. Two.", 2),
        ("One! Two? Three", 3),
        ("One... Two", 2),
        ("Dr. Smith came. He left.", 2),
        ("It costs 3.50 in all. Fine.", 2),
        ("See e.g. this one. Fine.", 2),
        ("1. First thing\n2. Second thing", 1),
        ('"Stop." He ran.', 2),
        ("One.\n\nTwo.", 2),
        ("\N{HIRAGANA LETTER A}\N{IDEOGRAPHIC FULL STOP}\N{HIRAGANA LETTER I}\N{IDEOGRAPHIC FULL STOP}", 2),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert count_sentences(text) == sentences


def test_words_and_capital_words() -> None:
    assert count_words("it's a t-shirt, no?") == 6
    assert count_capital_words("A BIG Dog, the U.S. and DON'T 42 x") == 4


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The weather is nice today and we are going to the beach."),
        ("es", "El tiempo es bueno hoy y vamos a la playa con los niños."),
        ("fr", "Il fait beau aujourd'hui et nous allons à la plage avec les enfants."),
        ("de", "Das Wetter ist heute schön und wir gehen mit den Kindern zum Strand."),
        ("it", "Il tempo è bello oggi e andiamo alla spiaggia con i bambini."),
        ("pt", "O tempo está bom hoje e vamos para a praia com as crianças, não é?"),
        ("vi", "Hôm nay thời tiết đẹp và chúng tôi đi biển với các con."),
        ("fi", "Sää on tänään kaunis ja me menemme rannalle lasten kanssa."),
        ("sw", "Hali ya hewa ni nzuri leo na tunakwenda pwani na watoto."),
        ("pl", "Pogoda jest dziś ładna i idziemy na plażę z dziećmi."),
        ("ru", "Сегодня хорошая погода, и мы идём на пляж с детьми, но не все."),
        ("bg", "Днес времето е хубаво и ние отиваме на плажа с децата."),
        ("uk", "Сьогодні гарна погода, і ми йдемо на пляж з дітьми."),
        ("ar", "الطقس جميل اليوم وسنذهب إلى الشاطئ مع الأطفال."),
        ("fa", "هوا امروز خوب است و ما با بچه‌ها به ساحل می‌رویم."),
        ("ur", "آج موسم اچھا ہے اور ہم بچوں کے ساتھ ساحل پر جا رہے ہیں۔"),
        ("hi", "आज मौसम अच्छा है और हम बच्चों के साथ समुद्र तट पर जा रहे हैं।"),
        ("mr", "आज हवामान चांगले आहे आणि आम्ही मुलांसोबत समुद्रकिनारी जात आहोत."),
        ("ne", "आज मौसम राम्रो छ र हामी बच्चाहरूसँग समुद्र तटमा जाँदैछौं, यो राम्रो हो।"),
        ("bn", "আজ আবহাওয়া ভালো।"),
        ("ta", "இன்று வானிலை நன்றாக உள்ளது."),
        ("th", "วันนี้อากาศดี"),
        ("ko", "오늘은 날씨가 좋습니다."),
        ("ja", "今日は天気がいいので、子供と海に行きます。"),
        ("he", "מזג האוויר היום יפה."),
        ("zh", "今天天气很好。"),
        (None, "123 !?"),
    ],
)
def test_languages(language: str | None, text: str) -> None:
    assert detect_language(text) == language
    assert detect_language(text.upper()) == language


@pytest.mark.parametrize(
    "answer",
    [
        "a. " * 33_000,
        "*" * 100_000,
        "[" * 100_000,
        "<<" * 50_000,
        "{" * 100_000,
        "\n" * 100_000 + "a",
        "word " * 20_000,
    ],
)
def test_very_long_answers_are_quick(answer: str) -> None:
    start = time.perf_counter()
    for name, arguments in {name: arguments for name, arguments, _, _ in CASES}.items():
        instructions_followed(answer, [name], [arguments], mode="loose")
    assert time.perf_counter() - start < 10
