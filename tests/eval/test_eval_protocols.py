"""What protocols ask, word for word, and that nothing is asked otherwise without being said."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval.asking import request_of, text_of, tiles_of, worded
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.placing import place_images
from taid_vlm_eval.protocols import FAMILIES, PROTOCOLS, choose_family, load_protocol, under, with_data
from taid_vlm_eval.protocols.loading import merged, parse_protocol
from taid_vlm_eval.style import Style, Wording, require_style
from taid_vlm_eval.task_files import list_tasks, load_task
from tests.eval.fakes import FakeModel, write_task

OPENVLM = PROTOCOLS[1:]
TASKS = load_protocol("openvlm-2025-01").tasks
P1 = "Answer the question using a single word or phrase."
P2 = "Answer with the option's letter from the given choices directly."
QUESTION, HINT = "What is it?", "Taken at night."


def record(options: dict[str, str] | None = None, *, question: str = QUESTION, hint: str = "", images: int = 1) -> Item:
    shown = options if options is not None else {"A": "a cat", "B": "a dog"}
    return Item("1", "", "", [Path("x")] * images, facts={"options": shown} if shown else {}, bare=question, hint=hint)


def asked(protocol: str, family: str, task: str, item: Item) -> str:
    """What a model reads, with its pictures as digits in angle brackets."""
    found = under(load_task(task), protocol, family).task
    text, order, layout = place_images(text_of(item, found), len(item.images), found.style)
    return "".join(f"<{part + 1}>" if isinstance(part, int) else part for part in layout or (*order, text))


@pytest.mark.parametrize("protocol", OPENVLM)
def test_every_family_asks_every_task(protocol: str) -> None:
    found = load_protocol(protocol)
    for family, task in itertools.product(found.families, found.tasks):
        kind = found.tasks[task].kind
        item = record({} if kind in ("yes-no", "vqa", "own") else None, hint=HINT if kind == "mcq" else "")
        said = asked(protocol, family, task, item)
        moved = under(load_task(task), protocol, family).task
        assert QUESTION in said, (family, task)
        assert "{" not in said, (family, task)
        assert all(f"{letter}. {text}" in said for letter, text in item.facts.get("options", {}).items())
        assert item.hint in said
        assert said.count("<1>") == 1
        assert (moved.style.protocol, moved.style.family) == (protocol, family)
        assert moved.protocol.startswith(f"{protocol}, family {family}: {found.tasks[task].dataset} ")
        require_style(moved.style)


@pytest.mark.parametrize("protocol", OPENVLM)
@pytest.mark.parametrize(
    ("task", "item", "said"),
    [
        ("mmstar", record(), f"<1>{QUESTION}\nA. a cat\nB. a dog\n{P2}"),
        ("mmbench_v11", record(hint=HINT), f"<1>{HINT}\n{QUESTION}\nA. a cat\nB. a dog\n{P2}"),
        ("mmbench_v11_cn", record({"A": "猫", "C": "狗"}), f"<1>{QUESTION}\nA. 猫\nC. 狗\n请直接回答选项字母。"),
        ("ai2d", record({"A": "{x}", "B": "nan"}), f"<1>{QUESTION}\nA. {{x}}\nB. nan\n{P2}"),
        ("mmmu", record({}), f"<1>{QUESTION}\nAnswer the question directly."),
        ("mmmu", record({}, question="几？"), "<1>几？\n请直接回答问题。"),
        (
            "mmmu",
            record(question="Is <image 1> like <image 2>?", images=2),
            f"Image-1: <1>Image-2: <2>Is <image 1> like <image 2>?\nA. a cat\nB. a dog\n{P2}",
        ),
        ("hallusion_bench", record({}), f"<1>{QUESTION} Please answer yes or no. {P1}"),
        ("mme", record({}), f"<1>{QUESTION} {P1}"),
        ("pope", record({}), f"<1>{QUESTION}"),
        ("ocrbench", record({}), f"<1>{QUESTION}\n{P1}"),
        ("docvqa", record({}), f"<1>{QUESTION}\n{P1}"),
        ("mathvista", record({}), f"<1>{QUESTION}"),
        ("mm_vet", record({}), f"<1>{QUESTION}"),
    ],
)
def test_internvl_word_for_word(protocol: str, task: str, item: Item, said: str) -> None:
    assert asked(protocol, "internvl", task, item) == said


KIT = f"Question: {QUESTION}\nOptions:\nA. a cat\nB. a dog\n"
OTHERS = [
    ("dataset-default", "mmstar", record(), f"<1>{KIT}Please select the correct answer from the options above. \n"),
    ("dataset-default", "mmmu", record({}), f"<1>Question: {QUESTION}\n"),
    (
        "llava_onevision",
        "mmmu",
        record({}, question="See <image 2>, <image 1>, <image 2>, <image 9>.", images=3),
        # The third is not named, so it is not shown; the second is shown twice.
        "Question: See <1>, <2>, <3>, <image 9>.\n",
    ),
    ("dataset-default", "ocrbench", record({}), f"<1>{QUESTION}"),
    ("dataset-default", "textvqa", record({}), f"<1>{QUESTION}\n{P1}"),
    ("llava", "mmstar", record(), f"<1>{QUESTION}\nA. a cat\nB. a dog\n{P2}"),
    ("llava", "hallusion_bench", record({}), f"<1>{QUESTION}"),
    (
        "qwen2_vl",
        "mmbench_v11",
        record(hint=HINT),
        f"<1>Hint: {HINT}\n{KIT}Please select the correct answer from the options above.",
    ),
    (
        "qwen2_vl",
        "mmbench_v11_cn",
        record({"A": "猫"}),
        f"<1>Question: {QUESTION}\nOptions:\nA. 猫\n请直接回答选项字母。",
    ),
    (
        "qwen2_vl",
        "mmmu",
        record({"A": "猫"}),
        f"<1>Question: {QUESTION}\nOptions:\nA. 猫\nPlease select the correct answer from the options above.",
    ),
    ("qwen2_vl", "pope", record({}), f"<1>{QUESTION} Please answer yes or no."),
    ("qwen2_vl", "mme", record({}), f"<1>{QUESTION}"),
    (
        "qwen2_vl",
        "mathvista",
        record({}),
        f"<1>{QUESTION}\nPlease try to answer the question with short words or phrases if possible.",
    ),
    ("qwen2_vl", "mm_vet", record({}), f"<1>{QUESTION}"),
    ("smolvlm", "mmstar", record(), f"<1>Question: {QUESTION}\nChoices:\nA. a cat\nB. a dog\nAnswer with the letter."),
    (
        "smolvlm",
        "mmbench_v11",
        record(hint=HINT),
        f"<1>Question: {QUESTION}\nHint: {HINT}\nChoices:\nA. a cat\nB. a dog\nAnswer with a letter.",
    ),
    (
        "smolvlm",
        "mmmu",
        record(question="Is <image 2> like <image 1>?", images=2),
        "Question: <image 1>:<1>\n<image 2>:<2>\nIs <image 1> like <image 2> ?\nChoices:\nA. a cat\nB. a dog\nAnswer with the letter.",
    ),
    ("smolvlm", "ocrbench", record({}, question=" what? \n"), "<1>what?\nGive a very brief answer."),
    ("smolvlm", "hallusion_bench", record({}), f"<1>{QUESTION}\nAnswer yes or no."),
    ("smolvlm", "mathvista", record({}, question="Hint: so\nChoices:\n(A) 1\n(B) 2"), "<1>so\nChoices:\nA. 1\nB. 2"),
]


@pytest.mark.parametrize("protocol", OPENVLM)
@pytest.mark.parametrize(("family", "task", "item", "said"), OTHERS)
def test_other_families_word_for_word(protocol: str, family: str, task: str, item: Item, said: str) -> None:
    assert asked(protocol, family, task, item) == said


def test_tiles_of_internvl_and_how_several_pictures_share_them() -> None:
    most = {"mmmu": 12, "chartqa": 12, "docvqa": 18, "infovqa": 24, "ocrbench": 24}
    for protocol, name in itertools.product(OPENVLM, TASKS):
        style = under(load_task(name), protocol, "internvl").task.style
        limit = most.get(name, 6)
        assert [tiles_of(style, count) for count in range(1, 66)] == [
            max(1, min(limit, 64 // count)) for count in range(1, 66)
        ]
        assert style.first_image_scale == (2 if name == "mmmu" else 1)
        assert style.jpeg == (protocol == "openvlm-2025-01")
    assert tiles_of(under(load_task("mmmu"), "openvlm-current", "llava").task.style, 3) is None
    assert tiles_of(style, 0) == 6


def test_limits_of_tokens() -> None:
    limits = {
        protocol: {name: family.max_new_tokens for name, family in load_protocol(protocol).families.items()}
        for protocol in OPENVLM
    }
    assert limits == {
        "openvlm-2025-01": {
            "dataset-default": 1024,
            "internvl": 4096,
            "qwen2_vl": 2048,
            "llava": 512,
            "llava_onevision": 512,
            "smolvlm": 512,
        },
        "openvlm-current": {
            "dataset-default": 2048,
            "internvl": 4096,
            "qwen2_vl": 2048,
            "llava": 2048,
            "llava_onevision": 2048,
            "smolvlm": 2048,
            "qwen2_5_vl": 2048,
            "smolvlm2": 2048,
        },
    }


def test_what_changed_between_the_two_is_how_letters_are_read() -> None:
    for name in TASKS:
        then, now = (with_data(load_task(name), protocol).task for protocol in OPENVLM)
        assert then.data == now.data
        if then.mode == "vlmevalkit-2025-01":
            assert now.mode == "vlmevalkit"
        else:
            assert now.mode == then.mode
    lettered = [name for name, task in TASKS.items() if task.kind in ("mcq", "mmmu")]
    assert all(TASKS[name].mode == "vlmevalkit-2025-01" for name in lettered)


def test_the_answer_is_begun_for_smolvlm_alone() -> None:
    def begun(family: str, task: str, item: Item) -> str:
        found = under(load_task(task), "openvlm-2025-01", family).task
        return request_of(replace(item, images=[]), found).answer_start

    assert begun("smolvlm", "mmstar", record()) == " Answer:"
    assert begun("smolvlm", "mmmu", record()) == " Answer:"
    assert begun("smolvlm", "mmmu", record({})) == ""
    assert begun("smolvlm", "realworldqa", record()) == ""
    for family, task in itertools.product(load_protocol("openvlm-2025-01").families, TASKS):
        if family != "smolvlm":
            assert begun(family, task, record()) == ""


def test_under_the_default_nothing_changes(tmp_path: Path) -> None:
    for name in list_tasks():
        task_file = load_task(name)
        assert under(task_file, "default", "") is task_file
        assert with_data(task_file, "default") is task_file
        assert task_file.task.style == Style()
    own = load_task(write_task(tmp_path, prompt={"prefix": "a {x} ", "suffix": " b"})).task
    item = Item("1", "q <image 1> {y}", "", facts={"options": {"A": "x"}}, bare="other", hint="h")
    request = request_of(item, own)
    assert (request.prompt, request.layout, request.max_tiles, request.answer_start) == (
        "a {x} q <image 1> {y} b",
        (),
        None,
        "",
    )


def test_a_class_belongs_to_one_family_by_its_exact_name() -> None:
    def model(kind: str) -> FakeModel:
        found = FakeModel()
        found.describe = lambda: {"name": "m", "class": kind}  # type: ignore[method-assign]
        return found

    assert choose_family(model("InternVLChatModel"), "openvlm-2025-01", None) == "internvl"
    assert choose_family(model("SmolVLMForConditionalGeneration"), "openvlm-current", None) == "smolvlm2"
    assert choose_family(model("MyInternVLChatModel"), "openvlm-current", "llava") == "llava"
    assert choose_family(model("anything"), "default", None) == ""
    refusals = {
        "does not say how models of the class MyInternVLChatModel": ("MyInternVLChatModel", "openvlm-current", None),
        "does not define the family 'smolvlm2'": ("SmolVLMForConditionalGeneration", "openvlm-2025-01", None),
        "names no class": ("", "openvlm-current", None),
        "no family 'internvl2'.*did you mean 'internvl'": ("InternVLChatModel", "openvlm-current", "internvl2"),
        "given without a protocol": ("InternVLChatModel", "default", "internvl"),
        "unknown protocol 'openvlm-2025-1'": ("InternVLChatModel", "openvlm-2025-1", None),
    }
    for message, (kind, protocol, family) in refusals.items():
        with pytest.raises(UserError, match=message):
            choose_family(model(kind), protocol, family)
    known = {name for protocol in OPENVLM for name in load_protocol(protocol).families}
    assert set(FAMILIES.values()) <= known


def test_what_a_protocol_does_not_define_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not define the task 'ok_vqa'"):
        under(load_task("ok_vqa"), "openvlm-current", "internvl")
    with pytest.raises(UserError, match="does not define the task 'small'"):
        with_data(load_task(write_task(tmp_path)), "openvlm-current")
    with pytest.raises(UserError, match="unknown protocol 'openvml'"):
        with_data(load_task("mmstar"), "openvml")


def test_pictures_are_changed_as_the_style_says_and_get_other_keys(tmp_path: Path) -> None:
    paths = []
    for index in range(2):
        image = Image.effect_noise((9 + index, 7), 60).convert("RGB")
        image.save(tmp_path / f"{index}.png")
        paths.append(tmp_path / f"{index}.png")
    item = replace(record(images=0), images=paths)
    single = replace(item, images=paths[:1])
    task = under(load_task("mmmu"), "openvlm-2025-01", "internvl").task
    two = request_of(item, task, keys=["a", "b"])
    assert [image.size for image in two.images] == [(18, 14), (10, 7)]
    assert two.max_tiles == 12
    assert two.keys[0] != "a"
    assert two.keys[1] == "b"
    with Image.open(paths[0]) as plain:
        doubled = plain.convert("RGB").resize((18, 14), Image.Resampling.BILINEAR)
        plain.convert("RGB").save(tmp_path / "0.jpg", quality=75)
    assert two.images[0].tobytes() == doubled.tobytes()
    with Image.open(tmp_path / "0.jpg") as coded:
        twice = coded.convert("RGB").resize((18, 14), Image.Resampling.BILINEAR)
    one = request_of(single, task, keys=["a"])
    assert one.images[0].tobytes() == twice.tobytes() != doubled.tobytes()
    assert len({one.keys[0], two.keys[0], "a"}) == 3
    assert request_of(single, task, keys=["a"]).keys == one.keys
    assert request_of(item, task).keys == ()


@pytest.mark.parametrize("style", [Style(), Style(images="labelled", label="{number}: "), Style(images="marks")])
@pytest.mark.parametrize("text", ["", "x", "<image 1>", "a <image 2> b <image 1>", "<image 3>", "<image 1><image 1>"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_layout_says_what_the_prompt_and_the_pictures_say(style: Style, text: str, count: int) -> None:
    prompt, order, layout = place_images(text, count, style)
    assert prompt == "".join(part for part in layout if isinstance(part, str)) or not layout
    if layout:
        assert [part for part in layout if isinstance(part, int)] == list(range(len(order)))
    elif style.images != "marks":
        assert (prompt, order) == (text, list(range(count)))
    assert set(order) <= set(range(count))


def test_styles_that_cannot_be_are_refused(tmp_path: Path) -> None:
    wrong = {
        "unknown style.images 'frist'": {"images": "frist"},
        "unknown style.answer_starts 'often'": {"answer_starts": "often"},
        "style.max_tiles is 0": {"max_tiles": 0},
        "style.first_image_scale is -1": {"first_image_scale": -1},
        "style.wording.text is '{questoin}'": {"wording": {"text": "{questoin}"}},
        "style.wording.options is '{'": {"wording": {"options": "{"}},
        "style.label is '{0}'": {"label": "{0}"},
        "not for task files": {"protocol": "openvlm-current"},
        "unknown key 'wordings'": {"wordings": {}},
    }
    for message, style in wrong.items():
        with pytest.raises(UserError) as raised:
            load_task(write_task(tmp_path, style=style))
        assert message in str(raised.value)
    own = load_task(write_task(tmp_path, style={"max_tiles": 4, "wording": {"text": "Q: {question}"}})).task
    request = request_of(record(images=0), own)
    assert (request.prompt, request.max_tiles) == (f"Q: {QUESTION}", 4)


def test_braces_in_the_data_are_only_braces() -> None:
    item = record({"A": "{question}", "B": "}{"}, question="{options} {0} {", hint="{}")
    wording = Wording(text="{hint}{question}{options}", options="\n{lines}")
    assert worded(item, wording) == "{}\n{options} {0} {\nA. {question}\nB. }{"


def test_files_of_protocols_are_strict() -> None:
    family = {
        "description": "d",
        "max_new_tokens": 1,
        "kinds": dict.fromkeys(("mcq", "mmmu", "yes-no", "vqa", "own"), "w"),
    }
    good = {
        "description": "d",
        "judge": "j",
        "wordings": {"w": {"text": "{question}"}},
        "tasks": {"mmstar": {"kind": "mcq", "dataset": "MMStar"}},
        "families": {"f": family, "g": {"like": "f", "max_new_tokens": 2, "kinds": {"mcq": "w"}}},
        "averages": {},
    }
    found = parse_protocol("p", good)
    assert found.families["g"] == replace(found.families["f"], max_new_tokens=2)
    wrong = {
        "unknown key 'familes'": {"familes": {}},
        "unknown kind 'mqc'": {"tasks": {"mmstar": {"kind": "mqc"}}},
        "unknown wording 'v'": {"families": {"f": {"kinds": {"mcq": "v"}}}},
        "the protocol has no task 'ai2d'": {"families": {"f": {"tasks": {"ai2d": {}}}}},
        "kinds are": {"families": {"f": {"kinds": {"more": "w"}}}},
        "unknown key 'tiles'": {"families": {"f": {"tiles": 1}}},
    }
    for message, change in wrong.items():
        with pytest.raises(UserError, match=message):
            parse_protocol("p", merged(good, change))


def test_merging_changes_what_is_named_and_nothing_else() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert merged(base, {"a": {"c": [3]}, "e": 4}) == {"a": {"b": 1, "c": [3]}, "d": 2, "e": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert merged(base, {}) == base
