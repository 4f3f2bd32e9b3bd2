"""Other ways of asking: letters and options by likelihood, several turns, and the divergence from a teacher."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.cli import main
from taid_vlm_eval.data import load_items
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.metrics.porter import stem
from taid_vlm_eval.metrics.rouge import rouge_l
from taid_vlm_eval.models import Request, open_model
from taid_vlm_eval.models.divergence import Divergence, shared_prefix, sums_of
from taid_vlm_eval.models.protocol import Likelihood
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.ways import option_letters
from tests.eval.fakes import FakeModel, write_rows, write_task
from tests.tiny.benchmark_files import write_benchmark
from tests.tiny.language_model import save_chatty_llama, save_tiny_llama, tiny_tokenizer
from tests.tiny.tokenizers import family_tokenizer


class Weighing(FakeModel):
    """Knows how likely texts are; ``seen`` are the requests and continuations it was asked for."""

    def __init__(self, likely: dict[str, float], **more: Any) -> None:
        super().__init__(**more)
        self.likely = likely
        self.seen: list[tuple[Request, Sequence[str]]] = []

    def log_likelihoods(
        self, requests: Sequence[Request], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        self.seen += zip(requests, continuations, strict=True)
        return [[Likelihood(self.likely.get(text, -9.0), 1) for text in texts] for texts in continuations]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache" / "data"


@pytest.mark.parametrize("task", ["mmlu", "ai2d", "mmstar", "mmmu"])
def test_letters_by_likelihood_of_any_task_that_has_them(task: str, cache: Path, tmp_path: Path) -> None:
    write_benchmark(task, cache)
    # Each spelling alone is less likely than C; both together are not.
    model = Weighing({"B": math.log(0.2), " B": math.log(0.2), "C": math.log(0.3), " C": -50.0}, rule=lambda r: "7")
    (result,) = evaluate(model, [task], output_dir=tmp_path, letters="likelihood")
    letters = [json.loads(line)["answer"] for line in (tmp_path / f"{task}.answers.jsonl").read_text().splitlines()[1:]]
    assert sorted(letters) == (["7", "B", "B"] if task == "mmmu" else ["B"] * 3)  # MMMU has an open question
    assert result.parse_rate == 1.0
    assert "letters by likelihood" in result.protocol
    assert result.prompt["asks"] == "letters"
    request, continuations = model.seen[0]
    assert list(continuations) == [text for letter in request.texts for text in (letter, f" {letter}")]
    # The same task with generated letters is another question, so nothing of the answers is taken over.
    said: list[str] = []
    evaluate(FakeModel(lambda r: "A"), [task], output_dir=tmp_path, say=said.append)
    assert "prompt" in said[0]


def test_letters_that_a_question_shows() -> None:
    shown = {
        "What?\nOptions: A: red, B: blue": "AB",
        "Pick.\nA. x\nB. y\nC. z": "ABC",
        "(A) u\n(B) v": "AB",
        "Who?": "",
    }
    for question, letters in {**shown, "Is A. Smith tall?": ""}.items():
        assert "".join(option_letters(Item("1", question, "A"))) == letters


def test_letters_where_there_are_none_and_models_that_cannot_weigh(cache: Path, tmp_path: Path) -> None:
    for task in ("gsm8k", "mmlu"):
        write_benchmark(task, cache)
    with pytest.raises(UserError, match="no task of gsm8k has letters"):
        evaluate(FakeModel(), ["gsm8k"], output_dir=tmp_path, letters="likelihood")
    with pytest.raises(UserError, match="unknown letters 'likelyhood': did you mean 'likelihood'"):
        evaluate(FakeModel(), ["mmlu"], output_dir=tmp_path, letters="likelyhood")
    with pytest.raises(UserError, match="fake cannot tell how likely a text is"):
        evaluate(FakeModel(), ["mmlu"], output_dir=tmp_path, letters="likelihood")


def test_likelihoods_that_are_no_numbers_are_told(cache: Path, tmp_path: Path) -> None:
    write_benchmark("mmlu", cache)
    (result,) = evaluate(Weighing({"A": math.nan}), ["mmlu"], output_dir=tmp_path, letters="likelihood")
    assert (result.errors, result.first_errors[0]["error"]) == (3, "the model's likelihoods are not numbers")


def test_hellaswag_is_cleaned_and_scored_by_characters(cache: Path, tmp_path: Path) -> None:
    write_benchmark("hellaswag", cache)
    # By sum the shortest wins, by character the longest.
    texts = [" Sit down.", " run away. Then rest.", " sing.", " eat cake with the others."]
    model = Weighing(dict(zip(texts, [-11.0, -10.5, -9.5, -10.0], strict=True)))
    (result,) = evaluate(model, ["hellaswag"], output_dir=tmp_path)
    request, continuations = model.seen[0]
    assert request.plain
    assert {one.prompt for one, _ in model.seen} == {f"Baking, {n}: A man stands. How? He then" for n in range(3)}
    assert list(continuations) == [" " + one for one in (" Sit down.", "run away. Then rest.", "sing.", texts[3][1:])]
    assert result.metric == "acc_norm"
    assert result.named["acc"]["value"] == pytest.approx(1 / 3)
    assert result.parse_rate == 1.0


def test_ultrachat_asks_for_the_last_reply(cache: Path, tmp_path: Path) -> None:
    write_benchmark("ultrachat", cache)
    items = load_items(load_task("ultrachat"))
    assert [item.id for item in items] == ["0", "1"]  # too long, too long in all, no reply, an empty one
    model = FakeModel(lambda request: "It was a runs cat" if "0" in request.prompt else "nothing")
    (result,) = evaluate(model, ["ultrachat"], output_dir=tmp_path)
    earlier = {request.prompt: request.earlier for batch in model.batches for request in batch}
    assert earlier == {"What is it, 0?": (), "What is it, 1?": (("Hello.", "Hi!"),)}
    assert result.value == pytest.approx(rouge_l("it a run cat was", "it is a run cat") / 2)


def test_stemmed_rouge_is_that_of_rouge_score() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=True)
    pairs = [
        ("The runners were running quickly, dying news", "a runner runs; he dies of the new"),
        ("conditional generalizations", "condition generalized"),
    ]
    for answer, truth in pairs:
        wanted = scorer.score(truth, answer)["rougeL"].fmeasure
        assert rouge_l(answer, truth, mode="stemmed") == pytest.approx(wanted)
    assert rouge_l("running", "runs", mode="stemmed") > rouge_l("running", "runs")


def test_stems_are_those_of_the_stemmer_that_rouge_score_uses() -> None:
    theirs = pytest.importorskip("nltk.stem.porter").PorterStemmer()
    generator = torch.Generator().manual_seed(0)
    endings = (
        "s ies ied ed ing eed y alli ational tional enci izer bli ousli ization ator iveness fulli logi icate ative"
    )
    pieces = [*endings.split(), "ful", "ness", "ance", "ement", "ion", "ll", "e", "ly", *"aeioubcdlstyz" * 3]
    words = {
        "".join(pieces[place] for place in torch.randint(len(pieces), (length,), generator=generator).tolist())
        for length in (2, 3, 4, 5, 6)
        for _ in range(1500)
    }
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8").lower().split()
    words |= {word for word in text if word.isascii() and word.isalpha()} | {"skies", "innings", "news", "exceed"}
    assert [(word, stem(word), theirs.stem(word)) for word in sorted(words) if stem(word) != theirs.stem(word)] == []


QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write, 81.", "Again, shorter."]},
    {"question_id": 101, "category": "math", "turns": ["Add.", "And once more."], "reference": ["2", "3"]},
]


def test_mt_bench_asks_two_turns_and_writes_answers_for_a_judge(cache: Path, tmp_path: Path) -> None:
    (cache / "mt_bench").mkdir(parents=True)
    with pytest.raises(UserError, match=r"put FastChat's file .*question.jsonl there"):
        load_items(load_task("mt_bench"))
    write_rows(cache / "mt_bench", QUESTIONS, "question.jsonl")
    items = load_items(load_task("mt_bench"))
    assert items[1].facts == {"turns": ["And once more."], "category": "math", "reference": ["2", "3"]}
    model = FakeModel(lambda request: f"{request.prompt}|{len(request.earlier)}")
    said: list[str] = []
    folder = tmp_path / "taid--student"
    assert evaluate(model, ["mt_bench"], output_dir=folder, say=said.append) == []
    second = next(request for request in model.batches[1] if request.prompt == "Again, shorter.")
    assert second.earlier == (("Write, 81.", "Write, 81.|0"),)
    path = folder / "mt_bench" / "model_answer" / "taid--student.jsonl"
    assert said == [f"mt_bench: answers only, its score needs a judge; FastChat's reads {path}"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["question_id"] for row in rows] == [81, 101]
    assert rows[0]["choices"] == [{"index": 0, "turns": ["Write, 81.|0", "Again, shorter.|1"]}]
    before = path.read_bytes()
    evaluate(FakeModel(dies_after=0), ["mt_bench"], output_dir=folder)
    assert path.read_bytes() == before


def test_sums_of_a_divergence_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    ours, theirs = (3 * torch.randn(150, 11, generator=generator) for _ in range(2))
    theirs[:, 3] = -torch.inf  # a token that the teacher never says
    answer = torch.randint(3, (150,), generator=generator).tolist()
    found = sums_of(ours, theirs, answer, shared=9)
    p, q = theirs[:, :9].double().softmax(-1), ours[:, :9].double().softmax(-1)
    kl = torch.where(p > 0, p * (p / q).log(), 0.0).sum()
    assert found["kl"] == pytest.approx(kl.item(), rel=1e-5)
    assert found["reverse_kl"] == math.inf
    assert found["agreement"] == (p.argmax(-1) == q.argmax(-1)).sum().item()
    labels = torch.tensor(answer).unsqueeze(1)
    assert found["cross_entropy"] == pytest.approx(-q.gather(1, labels).log().sum().item(), rel=1e-5)
    same = sums_of(ours, ours, answer, shared=11)
    assert (same["kl"], same["reverse_kl"], same["agreement"]) == (0.0, 0.0, 150.0)


def test_a_divergence_from_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student, teacher = save_chatty_llama(tmp_path / "one"), save_chatty_llama(tmp_path / "two", seed=5)
    rows = [{"question": f"Why, {n}?", "answer": "Because it is so." * (n + 1)} for n in range(3)]
    write_rows(tmp_path, rows)
    task = str(write_task(tmp_path, asks="divergence", scorer="divergence", metric="divergence"))
    assert main([str(student), "--tasks", task, "--device", "cpu"]) == 1
    assert "name one with --teacher" in capsys.readouterr().err
    models = {name: open_model(folder, device="cpu") for name, folder in (("one", student), ("two", teacher))}
    (result,) = evaluate(models["one"], [task], output_dir=tmp_path / "a", teacher=models["two"])
    (turned,) = evaluate(models["two"], [task], output_dir=tmp_path / "b", teacher=models["one"])
    (same,) = evaluate(models["one"], [task], output_dir=tmp_path / "c", teacher=models["one"], batch_size=1)
    assert result.value == result.named["kl"]["value"] > 0.01
    assert result.named["kl"]["value"] == pytest.approx(turned.named["reverse_kl"]["value"], rel=1e-4)
    assert result.named["cross_entropy"]["value"] == pytest.approx(turned.named["teacher_cross_entropy"]["value"])
    assert same.value == pytest.approx(0.0, abs=1e-6)
    assert same.named["agreement"]["value"] == 1.0
    answers = [
        json.loads(line)["answer"] for line in (tmp_path / "a" / "small.answers.jsonl").read_text().split("\n")[1:-1]
    ]
    totals = [json.loads(one) for one in answers]
    assert sum(one["tokens"] for one in totals) == 17 * 6
    assert result.value == pytest.approx(sum(one["kl"] for one in totals) / (17 * 6))
    # Both distributions are over the ids that stand for tokens; the head has four rows more.
    likely: Any = models["one"]
    ids = likely.tokenizer.encode("Because it is so.")
    log_q = likely.answer_rows([Request("Why, 0?")], [ids])[0][:, : len(likely.tokenizer)].log_softmax(-1)
    first = next(one for one in totals if one["tokens"] == 17)
    assert first["cross_entropy"] == pytest.approx(-log_q[range(17), ids].sum().item(), rel=1e-4)


def test_tokenizers_that_differ_are_refused(tmp_path: Path) -> None:
    model: Any = open_model(save_tiny_llama(tmp_path / "one"), device="cpu")
    parts = {"name": "other", "tokenizer": family_tokenizer("llama2"), "answer_rows": lambda self, *given: []}
    parts |= {"chat_template": None, "longest": None}
    other: Any = type("Other", (), parts)()
    with pytest.raises(UserError, match="different tokenizers: only the first 0 of"):
        Divergence(model, other)
    longer = tiny_tokenizer(extra=("<new>",))
    assert shared_prefix(tiny_tokenizer(), longer) == len(tiny_tokenizer())
    with pytest.raises(UserError, match="fake gives no logits"):
        Divergence(model, FakeModel())


def test_tasks_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    for changes, reason in (
        ({"asks": "letter"}, "unknown asks 'letter': did you mean 'letters'"),
        ({"asks": "options"}, "asks is 'options' and the scorer 'exact_match', expected likelihood"),
        ({"template": False}, "template is false"),
    ):
        with pytest.raises(UserError, match=reason):
            load_task(write_task(tmp_path, **changes))
