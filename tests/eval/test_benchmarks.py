"""Every shipped benchmark on a few records in its real format: prompt, truth, facts and figures, all worked out by hand.

The model answers from a table: what stands in a prompt (", 0" for the first record) to what it says.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import list_tasks, load_task
from taid_vlm_eval.data import load_items
from taid_vlm_eval.data.item import open_images
from taid_vlm_eval.metrics import SCORERS
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel
from tests.tiny.benchmark_files import write_benchmark
from tests.tiny.benchmarks import picture

P1 = "\nAnswer the question using a single word or phrase."
P2 = "\nAnswer with the option's letter from the given choices directly."
INSUFFICIENT = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + P1
FOUR = "\nA. red\nB. blue\nC. green\nD. black"
LETTERS = {"A": "red", "B": "blue", "C": "green", "D": "black"}
QUESTION = "What is it, 0?"


@dataclass(frozen=True)
class Case:
    """One task: the prompt, truth and facts of its first record, what the model says, and what comes of it."""

    prompt: str
    truth: str | list[str]
    answers: list[str]
    value: float = 1 / 3
    parse_rate: float = 2 / 3
    facts: dict[str, Any] = field(default_factory=dict)
    named: dict[str, float] = field(default_factory=dict)


TEN = ["red"] * 3 + ["blue"] * 7
# Three say red: each of them agrees with two others (2/3), and the seven with three (1).
VQA = {"value": 0.3, "answers": ["Red.", "green", ""]}
MMBENCH = Case(
    f"It is\tbig.\n{QUESTION}\nA. red\nB. blue{P2}",
    "A",
    ["A", "B. red", "5", "B"],
    value=0.5,
    parse_rate=1.0,
    facts={"options": {"A": "red", "B": "blue"}, "group": "3", "category": "logic", "l2_category": "reasoning"},
    named={"rotations": 0.75, "category/logic": 0.5},
)
CASES = {
    **dict.fromkeys(("mmbench_v11", "mmbench_v11_dev", "mmbench_dev"), MMBENCH),
    "mmbench_v11_cn": Case(
        f"It is\tbig.\n{QUESTION}\nA. red\nB. blue\n请直接回答选项字母。", "A", ["A", "B", "C", "A"], 1.0, 1.0
    ),
    "mmstar": Case(
        f"{QUESTION}\nOptions: A: red, B: blue, C: green, D: black{P2[:-1]}",
        "B",
        ["**B**", "A", "I cannot tell."],
        facts={"category": "geometry", "ability": "math"},
        named={"category/geometry": 0.5, "category/statistical reasoning": 0.0, "mean_of_categories": 0.25},
    ),
    "mmmu": Case(
        f"Which, 0, of <image 1>?\nA. <image 2>\nB. blue\nC. it's\n{P2}",
        "B",
        ["blue", "The answer is 7", "I cannot tell."],
        value=2 / 3,
        facts={
            "options": {"A": "<image 2>", "B": "blue", "C": "it's"},
            "question_type": "multiple-choice",
            "category": "Art",
        },
        named={"category/Art": 0.5, "category/Art_Theory": 1.0},
    ),
    "mathvista": Case(
        f"Hint: Please answer the question.\nQuestion: {QUESTION}",
        "blue",
        ["(B)", "The answer is 1.23", "I cannot tell."],
        value=2 / 3,
        facts={"choices": ["red", "blue", "green", "black"], "answer_type": "text", "category": "multi_choice"},
        named={"category/free_form": 0.5, "category/multi_choice": 1.0},
    ),
    "ocrbench": Case(
        QUESTION,
        ["x ^ 2"],
        ["x^2", "it says stop", ""],
        value=2.0,
        facts={"dataset": "HME100k", "category": "Formula"},
        named={"type/Formula": 1.0, "type/Regular Text": 1.0, "accuracy": 2 / 3},
    ),
    "ai2d": Case(f"{QUESTION}{FOUR}{P2}", "A", ["red", "A", "I cannot tell."], facts={"options": LETTERS}),
    "hallusion_bench": Case(
        f"{QUESTION} Please answer yes or no. Answer the question using a single word or phrase.",
        "no",
        ["No.", "no", "Perhaps"],
        named={"aAcc": 1 / 3, "fAcc": 0.0, "qAcc": 0.0, "mean": 1 / 9},
        value=1 / 9,
        facts={"category": "VD", "subcategory": "illusion", "set_id": "0", "figure_id": "1", "question_id": "0"},
    ),
    "vqav2": Case(QUESTION + P1, TEN, **VQA),
    "ok_vqa": Case(QUESTION + INSUFFICIENT, TEN, **VQA),
    "vizwiz": Case("What is this, 0?" + INSUFFICIENT, TEN, **VQA),
    "textvqa": Case("What is this, 0?" + P1, TEN, **VQA),
    "gqa": Case(QUESTION + P1, "red", ["Red.", "blue", ""]),
    # One letter of ten is wrong.
    "docvqa": Case(
        QUESTION + P1, ["university", "the university"], ["univarsity", "school", ""], value=0.3, parse_rate=2 / 3
    ),
    "infovqa": Case(QUESTION + P1, ["hello"], ["Hello", "bye", ""]),
    "chartqa": Case(
        f"{QUESTION}\nAnswer the question with a single word.",
        "100",
        ["104", "106", ""],
        facts={"category": "augmented_test"},
        named={"category/augmented_test": 1.0, "category/human_test": 0.0},
    ),
    "scienceqa": Case(
        f"Context: It is big.\n{QUESTION}\nA. red\nB. blue\nC. green{P2}",
        "A",
        ["A.", "A", "I cannot tell."],
        facts={"options": {"A": "red", "B": "blue", "C": "green"}},
    ),
    "realworldqa": Case(QUESTION, "B", ["B", "3.", "I cannot tell."], value=2 / 3),
    "blink": Case(
        "Note: You only need to respond with A, B without providing any additional information.\n"
        "Which is it, 0, of the two?\nSelect from the following choices.\n(A) red\n(B) blue",
        "A",
        ["B", "(A)", *["B"] * 11, "I cannot tell."],
        value=1 / 14,
        parse_rate=13 / 14,
        facts={"category": "Art_Style", "options": {"A": "red", "B": "blue"}},
        named={"category/Counting": 1.0, "category/Jigsaw": 0.0},
    ),
    "seed_bench": Case(f"{QUESTION}{FOUR}{P2}", "A", ["A", "I cannot tell."], 0.5, 0.5, facts={"options": LETTERS}),
    # Adversarial: one yes that is right, one that is not. Random: one that is missed.
    "pope": Case(
        QUESTION + P1,
        "yes",
        ["Yes", "Yes, it is.", "Perhaps"],
        facts={"category": "adversarial"},
        named={"adversarial/f1": 2 / 3, "random/f1": 0.0, "accuracy": 1 / 3, "yes_ratio": 2 / 3},
    ),
    # The first picture: 100 + 100 points; the second: 50 + 0.
    "mme": Case(
        f"Is it there, 0?{P1}",
        "yes",
        ["Yes", "No", "yes", "Perhaps"],
        value=250.0,
        parse_rate=3 / 4,
        facts={"category": "existence", "group": "existence/1.png"},
        named={"perception": 200.0, "cognition": 50.0, "code_reasoning/accuracy+": 0.0},
    ),
    "mmlu": Case(
        f"{QUESTION}{FOUR}{P2}",
        "A",
        ["A", "A", "I cannot tell."],
        facts={"options": LETTERS, "category": "anatomy"},
        named={"category/anatomy": 1 / 3},
    ),
    **dict.fromkeys(
        ("arc_easy", "arc_challenge"),
        Case(f"{QUESTION}{FOUR}{P2}", "A", ["A", "B", "I cannot tell."], 2 / 3, facts={"options": LETTERS}),
    ),
    "gsm8k": Case(
        'How many, 0?\nThink step by step, then write the final number on a line of its own after "#### ".',
        "2 and 5 are 7.\n#### 7",
        ["So\n#### 7", "8", "None."],
    ),
    "ifeval": Case(
        "Write, 0, without commas.",
        "",
        ["fine", "well, no", ""],
        facts={"instruction_id_list": ["punctuation:no_comma"]},
        named={"instruction_strict": 1 / 3, "prompt_loose": 1 / 3},
    ),
}
CAPTIONS = {"coco_captions": "cat", "flickr30k": "dog"}
OTHERS = {"easy_vqa", "chatterbot", "mm_vet"}
# Those that ask in another way than for one answer, see test_language_tasks.py.
OTHER_WAYS = {
    *("hellaswag", "arc_easy_likelihood", "arc_challenge_likelihood", "mmlu_likelihood", "ultrachat", "mt_bench"),
    *("lambada_openai", "kl_ultrachat", "kl_chatterbot", "kl_easy_vqa"),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache" / "data"


def test_every_shipped_task_is_tried_here() -> None:
    assert set(list_tasks()) == set(CASES) | set(CAPTIONS) | OTHERS | OTHER_WAYS


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark(name: str, cache: Path, tmp_path: Path) -> None:
    case = CASES[name]
    write_benchmark(name, cache)
    task = load_task(name)
    items = load_items(task)
    assert len(items) == len(case.answers)
    assert not any(item.broken for item in items)
    first = items[0]
    assert (first.answer, first.facts | case.facts) == (case.truth, first.facts)
    # What the scorer looks at is there, unless the data has none of it.
    known = {fact for item in items for fact in item.facts}
    assert set(SCORERS.get(task.task.scorer).takes) <= known | (
        {"options"} if name in ("mmstar", "realworldqa") else set()
    )

    def answer(request: Request) -> str:
        found = re.search(r", (\d+)", request.prompt)
        assert found is not None
        return case.answers[int(found[1])]

    model = FakeModel(answer)
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out")
    assert case.prompt in [request.prompt for batch in model.batches for request in batch]
    assert (result.n, result.errors) == (len(items), 0)
    assert result.value == pytest.approx(case.value)
    assert result.parse_rate == pytest.approx(case.parse_rate)
    assert {key: result.named[key]["value"] for key in case.named} == pytest.approx(case.named)


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions(name: str, cache: Path, tmp_path: Path) -> None:
    write_benchmark(name, cache)
    said = {8: f"A red {CAPTIONS[name]} number 0.", 9: "two birds", 10: ""}
    model = FakeModel(lambda request: said[request.images[0].width])
    (result,) = evaluate(model, [name], output_dir=tmp_path / "out")
    assert model.batches[0][0].prompt == "Provide a one-sentence caption for the provided image."
    # The first caption is a reference, the second shares no word with any, the third is empty.
    assert result.named["ROUGE-L"]["value"] == pytest.approx(1 / 3)
    assert result.parse_rate == pytest.approx(2 / 3)
    assert result.value == result.named["CIDEr"]["value"] > 0


def test_mm_vet_is_not_run_but_reads(cache: Path, tmp_path: Path) -> None:
    write_benchmark("mm_vet", cache)
    items = load_items(load_task("mm_vet"))
    assert (items[0].question, items[0].answer) == (QUESTION, "red<AND>blue")
    assert items[0].facts == {"category": "rec,ocr"}
    with pytest.raises(UserError, match="'mm_vet' has no scorer"):
        evaluate(FakeModel(), ["mm_vet"], output_dir=tmp_path)


def test_pictures_are_those_of_the_record(cache: Path) -> None:
    write_benchmark("mmmu", cache)
    write_benchmark("gqa", cache)
    write_benchmark("mmbench_v11", cache)
    widths = {}
    for name in ("mmmu", "gqa", "mmbench_v11"):
        items = load_items(load_task(name))
        widths[name] = [[image.width - 8 for image in open_images(item)] for item in items]
    assert widths == {"mmmu": [[1, 2], [1], [1]], "gqa": [[0], [1], [0]], "mmbench_v11": [[3], [3], [4], [4]]}


def test_the_page_lists_every_benchmark_as_its_task_has_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", page, re.MULTILINE)}
    assert set(rows) == set(list_tasks()) - {"easy_vqa", "chatterbot"}
    for name, line in rows.items():
        task = load_task(name).task
        said = [task.data.path, task.data.revision, task.scorer, task.mode, task.metric]
        assert all(f"`{one}`" in line for one in said if one), name
        assert f"| {task.generation.max_new_tokens} |" in line, name


def test_the_example_of_the_page_works(cache: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "birds.yaml").write_text(example, encoding="utf-8")
    (tmp_path / "birds").mkdir()
    rows = [{"question": "Which, 0?", "label": 1, "image": picture(0), "choices": ["a", "b"], "family": "owls"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "birds" / "test.parquet")
    model = FakeModel(lambda request: "B")
    (result,) = evaluate(model, [tmp_path / "birds.yaml"], output_dir=tmp_path / "out")
    assert model.batches[0][0].prompt == f"Which, 0?\nA. a\nB. b{P2}"
    assert result.named["category/owls"]["value"] == 1.0
