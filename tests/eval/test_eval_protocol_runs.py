"""Evaluations under a protocol, from VLMEvalKit's files to the figures, the result and the comparison."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm_eval import cli
from taid_vlm_eval import evaluate as from_python
from taid_vlm_eval.cli import main
from taid_vlm_eval.compare import compare
from taid_vlm_eval.metrics import SCORERS
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.protocols import load_protocol
from taid_vlm_eval.protocols.averages import averages
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, small_task

THEN, NOW = "openvlm-2025-01", "openvlm-current"
P2 = "Answer with the option's letter from the given choices directly."


@pytest.fixture
def lmu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "LMUData"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "LMUData").mkdir()
    return tmp_path / "LMUData"


def coded(width: int) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (width, 5), (200, 30, 30)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def mmstar(lmu: Path, count: int = 3) -> None:
    rows = [
        {
            "index": number,
            "image": coded(8 + number),
            "question": f"Which, {number}?",
            "answer": "B",
            "A": "a cat",
            "B": "a dog",
            "category": "coarse perception",
            "l2-category": "scene",
        }
        for number in range(count)
    ]
    write_tsv(lmu / "MMStar.tsv", rows)


class Internvl(FakeModel):
    """Says that it is of InternVL's class."""

    limits: list[int]

    def describe(self) -> dict[str, str | int]:
        return {"name": self.name, "class": "InternVLChatModel"}

    def generate(self, requests: Any, max_new_tokens: int) -> list[str]:
        self.limits = [*getattr(self, "limits", []), max_new_tokens]
        return super().generate(requests, max_new_tokens)


def by_number(answers: list[str]) -> Callable[[Request], str]:
    def rule(request: Request) -> str:
        found = re.search(r", (\d+)\?", request.prompt)
        assert found is not None
        return answers[int(found[1])]

    return rule


def test_a_task_is_asked_and_read_as_the_protocol_says(lmu: Path, tmp_path: Path) -> None:
    mmstar(lmu)
    # A letter far from the end counted in January 2025 and does not now.
    early = "B " + "because of how its ears and tail look in this picture"
    model = Internvl(by_number(["B", early, "A"]))
    (then,) = evaluate(model, ["mmstar"], output_dir=tmp_path / "then", protocol=THEN)
    (now,) = evaluate(model, ["mmstar"], output_dir=tmp_path / "now", protocol=NOW)
    assert (then.value, now.value) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (then.mode, now.mode) == ("vlmevalkit-2025-01", "vlmevalkit")
    requests = [one for batch in model.batches for one in batch]
    assert {one.prompt for one in requests} == {f"Which, {k}?\nA. a cat\nB. a dog\n{P2}" for k in range(3)}
    assert {one.max_tiles for one in requests} == {6}
    assert set(model.limits) == {4096}
    assert then.prompt["style"]["protocol"] == THEN
    assert then.prompt["style"]["family"] == "internvl"
    assert then.protocol == f"{THEN}, family internvl: MMStar of VLMEvalKit; the first figure is the mean over items"
    assert json.loads((tmp_path / "then" / "mmstar.result.json").read_text())["prompt"] == then.prompt


def test_another_protocol_or_family_asks_anew_and_the_same_one_does_not(lmu: Path, tmp_path: Path) -> None:
    mmstar(lmu)
    told: list[str] = []

    def ask(protocol: str, family: str | None) -> int:
        model = Internvl()
        evaluate(model, ["mmstar"], output_dir=tmp_path / "out", protocol=protocol, family=family, say=told.append)
        return sum(map(len, model.batches))

    assert [ask(THEN, None), ask(THEN, "internvl"), len(told)] == [3, 0, 0]
    assert [ask(NOW, None), len(told)] == [3, 1]
    assert [ask(NOW, "llava"), len(told)] == [3, 2]
    assert "another prompt" in told[0]


def test_answers_of_before_protocols_stay_good(tmp_path: Path) -> None:
    path = small_task(tmp_path)
    (result,) = evaluate(FakeModel(), [path], output_dir=tmp_path / "out")
    header = json.loads((tmp_path / "out" / "small.answers.jsonl").read_text().splitlines()[0])["header"]
    assert header["prompt"] == result.prompt == {"prefix": "", "suffix": ""}


def test_mmbench_is_circular_and_its_two_languages_have_a_mean(lmu: Path, tmp_path: Path) -> None:
    for name, right in (("MMBench_TEST_EN_V11", 2), ("MMBench_TEST_CN_V11", 1)):
        rows = []
        for index, (rotation, answer) in enumerate([(0, "A"), (1_000_000, "B"), (1, "A"), (1_000_001, "B")]):
            # The last question of the Chinese file is wrong in one rotation.
            truth = answer if index < 3 or right == 2 else "A"
            image = coded(9) if index in (0, 2) else str(rotation % 1_000_000)
            row = {
                "index": rotation,
                "image": image,
                "question": f"Which, {index}?",
                "answer": truth,
                "A": "a",
                "B": "b",
            }
            rows.append({**row, "hint": "nan", "category": "c", "l2-category": "l"})
        write_tsv(lmu / f"{name}.tsv", rows)
    model = Internvl(by_number(["A", "B", "A", "B"]))
    results = evaluate(model, ["mmbench_v11", "mmbench_v11_cn"], output_dir=tmp_path / "out", protocol=THEN)
    assert [one.value for one in results] == [1.0, 0.5]
    (mean,) = averages(results, THEN)
    assert (mean.average, mean.value) == ("MMBench_V11", 0.75)
    assert mean.parts == {"mmbench_v11": 1.0, "mmbench_v11_cn": 0.5}
    assert mean.low <= mean.value <= mean.high
    assert averages(results[:1], THEN) == averages(results, "default") == []
    # As the command and Python tell it: below the table, in the JSON, and in a file beside the results.
    tasks = ["mmbench_v11", "mmbench_v11_cn"]
    told = from_python(model, tasks, protocol=THEN, output=tmp_path / "out", quiet=True)
    assert told.averages["MMBench_V11"] == mean
    assert (
        f"MMBench_V11: 0.7500 ({mean.low:.4f} to {mean.high:.4f}), the mean of mmbench_v11 and mmbench_v11_cn"
        in str(told)
    )
    written = json.loads((tmp_path / "out" / "MMBench_V11.average.json").read_text())
    assert written == json.loads(told.to_json())[-1]
    assert written["average"] == "MMBench_V11"


def test_mmmu_keeps_the_validation_part_and_makes_choices_of_open_questions(lmu: Path, tmp_path: Path) -> None:
    def row(number: int, split: str, answer: str, options: tuple[str, str], images: int) -> dict[str, Any]:
        pictures = [coded(8 + k) for k in range(images)]
        shown = {
            "image": str(pictures) if images > 1 else pictures[0],
            "image_path": str([f"{number}_{k}.png" for k in range(images)]) if images > 1 else f"{number}.png",
        }
        named = "<image 1> and <image 2>" if images > 1 else "<image 1>"
        texts = {"question": f"Which of {named}, {number}?", "answer": answer, "A": options[0], "B": options[1]}
        return {"index": number, **shown, **texts, "category": "Art", "l2-category": "Arts", "split": split}

    rows = [
        row(0, "dev", "A", ("x", "y"), 1),
        row(1, "validation", "B", ("a cat", "a dog"), 2),
        row(2, "validation", "3.5", ("", ""), 1),
        row(3, "validation", "7", ("", ""), 1),
        row(4, "validation", "two words", ("", ""), 1),
    ]
    write_tsv(lmu / "MMMU_DEV_VAL.tsv", rows)
    # "A" means the truth of a question without options there; 70 holds 7.
    model = Internvl(by_number(["", "The answer is B.", "A", "It is 70", "Two words!"]))
    (result,) = evaluate(model, ["mmmu"], output_dir=tmp_path / "out", protocol=THEN)
    assert (result.n, result.value) == (4, 1.0)
    requests = {len(one.images): one for batch in model.batches for one in batch}
    assert requests[2].layout[:4] == ("Image-1: ", 0, "Image-2: ", 1)
    assert requests[2].images[0].size == (16, 10)
    assert requests[2].images[1].size == (9, 5)
    assert requests[1].images[0].size == (16, 10)
    assert requests[1].prompt.endswith("?\nAnswer the question directly.")
    assert requests[1].max_tiles == requests[2].max_tiles == 12


@pytest.mark.parametrize("mode", ["vlmevalkit", "vlmevalkit-2025-01"])
def test_open_questions_of_mmmu_as_a_choice(mode: str) -> None:
    def score(answer: str, truth: str | list[str]) -> float:
        return SCORERS.get("mmmu").apply(answer, truth, {"question_type": "open"}, mode).value

    assert score("12", "12") == 1.0
    assert score("It is 12", "12") == 1.0
    assert score("A", "12") == 1.0
    assert score("B", "12") == 0.0
    assert score("13", "12") == 0.0
    assert score("", "12") == 0.0
    assert score("12", ["12", "twelve"]) == 0.0
    assert score("['12', 'twelve']", ["12", "twelve"]) == 1.0 if mode == "vlmevalkit" else True


def test_hallusion_bench_groups_by_the_index_and_shows_all_four(lmu: Path, tmp_path: Path) -> None:
    rows = []
    rng = np.random.default_rng(0)
    for number, (category, part, place, figure, question) in enumerate(
        (category, part, place, figure, question)
        for category, part in (("VD", "ocr"), ("VS", "ocr"), ("VS", "map"))
        for place in (0, 1)
        for figure in (0, 1, 2)
        for question in (0, 1)
    ):
        shown = not (category == "VS" and figure == 0)
        row = {"index": f"{category}_{part}_1_{place}_{figure}_{question}", "image": coded(9) if shown else ""}
        texts = {"question": f"Is it, {number}?", "answer": "Yes" if rng.random() < 0.5 else "No"}
        rows.append({**row, **texts, "category": category, "l2-category": part})
    write_tsv(lmu / "HallusionBench.tsv", rows)
    said = [str(row["answer"]) if rng.random() < 0.8 else "Perhaps" for row in rows]
    (result,) = evaluate(Internvl(by_number(said)), ["hallusion_bench"], output_dir=tmp_path / "out", protocol=NOW)

    kept = [(row, said[k] == row["answer"]) for k, row in enumerate(rows) if row["image"]]

    def share(places: tuple[int, ...]) -> float:
        groups: dict[tuple[str, ...], list[bool]] = {}
        for row, right in kept:
            parts = row["index"].split("_")
            groups.setdefault((row["l2-category"], *(parts[k] for k in places)), []).append(right)
        return float(np.mean([all(one) for one in groups.values()]))

    figures = {"aAcc": float(np.mean([right for _, right in kept])), "fAcc": share((3, 4)), "qAcc": share((3, 5))}
    assert result.n == len(kept) == 28
    assert {name: result.named[name]["value"] for name in figures} == pytest.approx(figures)
    assert result.value == result.named["mean"]["value"] == pytest.approx(np.mean(list(figures.values())))


def test_results_under_a_protocol_are_compared_on_its_data(lmu: Path, tmp_path: Path) -> None:
    mmstar(lmu)
    runs = [("a", "internvl", ["B", "B", "A"]), ("b", "qwen2_vl", ["B", "A", "A"])]
    for folder, family, answers in runs:
        model = Internvl(by_number(answers), name=folder)
        evaluate(model, ["mmstar"], output_dir=tmp_path / folder, protocol=THEN, family=family)
    (comparison,) = compare([tmp_path / "a", tmp_path / "b"])
    assert comparison.differences[0].difference == pytest.approx(1 / 3)
    assert comparison.notes == [f"asked as the families 'internvl' and 'qwen2_vl' of the protocol {THEN!r}"]
    evaluate(Internvl(name="c"), ["mmstar"], output_dir=tmp_path / "c", protocol=NOW)
    with pytest.raises(UserError, match="mode is 'vlmevalkit-2025-01'"):
        compare([tmp_path / "a", tmp_path / "c"])


def test_the_command_tells_what_it_cannot_do(
    lmu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mmstar(lmu)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: FakeModel())
    assert main(["m", "--tasks", "mmstar,ok_vqa,ai2d", "--protocol", THEN, "--family", "internvl"]) == 1
    out, err = capsys.readouterr()
    assert "ok_vqa: not run: protocol 'openvlm-2025-01' does not define the task" in out
    assert "ai2d: not run: task 'ai2d': no file AI2D_TEST.tsv; fetch https://" in out
    assert err.startswith("error: not run: ok_vqa, ai2d;")
    assert (tmp_path / "evaluation" / f"m--{THEN}" / "mmstar.result.json").is_file()
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: pytest.fail("loaded"))
    assert main(["m", "--tasks", "mmstar", "--protocol", "open"]) == 1
    assert main(["m", "--tasks", "mmstar", "--protocol", THEN, "--family", "intern"]) == 1
    assert main(["m", "--tasks", "mmstar", "--family", "internvl"]) == 1
    assert capsys.readouterr().err.count("\n") == 3


def test_a_model_of_no_family_is_refused(lmu: Path, tmp_path: Path) -> None:
    mmstar(lmu)
    with pytest.raises(UserError, match="--family NAME chooses one of dataset-default, internvl"):
        evaluate(FakeModel(), ["mmstar"], output_dir=tmp_path / "out", protocol=THEN)
    assert not (tmp_path / "out").exists()


def test_both_commands_show_what_a_protocol_asks(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--show-protocol", THEN, "--family", "internvl"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    done = CliRunner().invoke(app, ["eval", *arguments])
    assert (done.exit_code, done.output) == (0, shown)
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert f"```text\n{shown}```" in page
    assert main(["--show-protocol", THEN]) == 1
    assert "dataset-default, internvl" in capsys.readouterr().err
    assert main(["--show-protocol", "default"]) == 1
    assert main(["--show-protocol", NOW, "--family", "smolvlm2", "--tasks", "mmmu,mmstar"]) == 0
    assert "the answer begins with ' Answer:'" in capsys.readouterr().out


def test_the_page_lists_every_family_and_task() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    for protocol in (THEN, NOW):
        found = load_protocol(protocol)
        assert all(f"`{name}`" in page for name in (protocol, *found.families, *found.tasks))
        for name, family in found.families.items():
            (row,) = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
            assert str(family.max_new_tokens) in row
