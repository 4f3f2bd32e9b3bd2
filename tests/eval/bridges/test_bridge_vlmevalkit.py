"""Predictions for VLMEvalKit, read back as it reads them: pandas, columns between tabs."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm_eval.bridges.vlmevalkit import FAILED, NOTHING, as_tsv, write_predictions
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, small_task, write_rows, write_task
from tests.tiny.benchmark_files import write_benchmark

ODD = [
    "A\tB",
    'say "red"',
    "two\nlines",
    "a\r\nb",
    "'",
    '"',
    "",
    "None",
    "\\t",
    "é 漢字 🙂",
    "half \ud800",
    "nul \0",
    "A,B;C",
    " A ",
]


def read(text: str | Path, **options: Any) -> pd.DataFrame:
    return pd.read_csv(text if isinstance(text, Path) else io.StringIO(text), sep="\t", **options)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LMUData", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache" / "data"


def test_cells_come_back_whatever_is_in_them() -> None:
    rows = [{"index": place, "question": f"q {one}", "prediction": one} for place, one in enumerate(ODD)]
    found = read(as_tsv(rows), keep_default_na=False)
    replaced = [one.replace("\0", "\N{REPLACEMENT CHARACTER}").replace("\ud800", "?") for one in ODD]
    assert found["prediction"].tolist() == replaced
    assert found["index"].tolist() == list(range(len(ODD)))
    assert found.columns.tolist() == ["index", "question", "prediction"]


def test_what_counts_as_nothing_is_what_pandas_takes_for_nothing() -> None:
    words = [*NOTHING, "none", "A", "0", "nothing", "-", "Null"]
    found = read(as_tsv([{"index": "x", "prediction": one} for one in words]))
    assert set(found.loc[found["prediction"].isna()].index) == set(range(len(NOTHING)))


def test_a_file_of_theirs_keeps_its_columns_and_order(cache: Path, tmp_path: Path) -> None:
    write_benchmark("mmbench_dev", cache)
    said = {"0": "A\tis it", "1": 'B "so"', "2": "C\nindeed", "3": "None"}
    model = FakeModel(lambda request: next(text for number, text in said.items() if f"{number}?" in request.prompt))
    evaluate(model, ["mmbench_dev"], output_dir=tmp_path / "mine")
    written = write_predictions(tmp_path / "mine", "mmbench_dev", tmp_path / "out")
    assert written.path == tmp_path / "out" / "mine_MMBench_DEV_EN.tsv"
    assert written.notes == ["1 are empty or words such as 'None' and 'NA', which pandas reads as nothing"]
    found = read(written.path)
    theirs = read(cache / "MMBench_DEV_EN.tsv").drop(columns="image")
    pd.testing.assert_frame_equal(found.drop(columns="prediction"), theirs)
    assert found["index"].dtype == "int64"
    assert found["prediction"].tolist()[:3] == list(said.values())[:3]


def test_records_of_the_hub_become_rows(cache: Path, tmp_path: Path) -> None:
    write_benchmark("mmstar", cache)
    evaluate(FakeModel(lambda request: "B."), ["mmstar"], output_dir=tmp_path / "mine")
    done = CliRunner().invoke(
        app,
        ["bridge", "vlmevalkit", str(tmp_path / "mine"), "--task", "mmstar", "--out", str(tmp_path), "--model", "ours"],
    )
    assert done.exit_code == 0, done.output
    assert "ours_MMStar.tsv: 3 predictions" in done.output
    found = read(tmp_path / "ours_MMStar.tsv")
    assert found.columns.tolist() == ["index", "question", "answer", "l2_category", "category", "split", "prediction"]
    assert found["index"].tolist() == [0, 1, 2]
    assert found["question"][1].startswith("What is it, 1?")
    assert set(found["prediction"]) == {"B."}
    assert set(found["split"]) == {"val"}
    # Their own file of the same data set tells whether the indices are theirs.
    theirs = found[["index", "question", "answer"]].assign(extra="kept")
    theirs.to_csv(tmp_path / "MMStar.tsv", sep="\t", index=False)
    again = write_predictions(tmp_path / "mine", "mmstar", tmp_path / "out", data=tmp_path / "MMStar.tsv")
    assert read(again.path).columns.tolist() == ["index", "question", "answer", "extra", "prediction"]
    theirs.assign(index=[2, 1, 0]).to_csv(tmp_path / "MMStar.tsv", sep="\t", index=False)
    with pytest.raises(UserError, match=r"asks otherwise in the record '0': 'What is it, 2\?.*not those of VLMEvalKit"):
        write_predictions(tmp_path / "mine", "mmstar", tmp_path / "out", data=tmp_path / "MMStar.tsv")
    theirs.assign(index=[7, 8, 9]).to_csv(tmp_path / "MMStar.tsv", sep="\t", index=False)
    with pytest.raises(UserError, match="no record with the index '0'"):
        write_predictions(tmp_path / "mine", "mmstar", tmp_path / "out", data=tmp_path / "MMStar.tsv")


def test_items_without_an_answer_say_so_in_their_words(tmp_path: Path) -> None:
    task = small_task(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"broken")
    evaluate(FakeModel(), [task], output_dir=tmp_path / "mine")
    written = write_predictions(tmp_path / "mine", "small", tmp_path, dataset="D", tasks_folders=[tmp_path])
    assert read(written.path)["prediction"].tolist() == ["red", FAILED, "red"]
    assert f"1 have no answer, and say {FAILED!r}" in written.notes


def test_mistakes_are_told(tmp_path: Path) -> None:
    task = small_task(tmp_path, 3)
    evaluate(FakeModel(), [task], output_dir=tmp_path / "mine")
    found = {"tasks_folders": [tmp_path]}
    with pytest.raises(UserError, match="how VLMEvalKit calls the data of 'small' is unknown; say it by --dataset"):
        write_predictions(tmp_path / "mine", "small", tmp_path, **found)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no answers at"):
        write_predictions(tmp_path / "other", "small", tmp_path, dataset="D", tasks_folders=[tmp_path])
    file = tmp_path / "mine" / "small.answers.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="lacks the answers to 1 of 3 items; finish the evaluation"):
        write_predictions(tmp_path / "mine", "small", tmp_path, dataset="D", tasks_folders=[tmp_path])
    file.write_text("".join(lines))
    rows = [json.loads(line) for line in (tmp_path / "small.jsonl").read_text().splitlines()]
    write_rows(tmp_path, [*rows[:2], {**rows[2], "question": "another?"}])
    with pytest.raises(UserError, match="the data here is not that of the answers"):
        write_predictions(tmp_path / "mine", "small", tmp_path, dataset="D", tasks_folders=[tmp_path])


def test_answers_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"id": "a", "question": "?", "answer": "red"}])
    write_task(tmp_path)
    header = {"prompt": {"asks": "turns"}, "limit": None, "seed": 0, "data_fingerprint": ""}
    (tmp_path / "small.answers.jsonl").write_text(json.dumps({"format": 1, "header": header}) + "\n")
    with pytest.raises(UserError, match="are turns, not texts"):
        write_predictions(tmp_path, "small", tmp_path, dataset="D", tasks_folders=[tmp_path])
