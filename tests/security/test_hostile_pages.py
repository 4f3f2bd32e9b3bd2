"""Pages and cards with text of strangers everywhere: a browser shows it, and runs none of it, even without the page's policy."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from taid_vlm.analysis.found import Found, Table
from taid_vlm.analysis.output import page as analysis_page
from taid_vlm.analysis.output import picture as analysis_picture
from taid_vlm.preview import page as preview_page
from taid_vlm.preview.schema import Dropped, Figures, Piece, Preview, SampleView, SideView
from taid_vlm.report.chart import Chart, Line
from taid_vlm.report.page import page as run_page
from taid_vlm.report.run_files import read_run
from taid_vlm.training.card import model_card
from taid_vlm_eval.compare import compare
from taid_vlm_eval.compare_page import page as compare_page
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.browser import dump, needs_browser
from tests.eval.fakes import FakeModel, task_content, write_task
from tests.report.written_runs import write_examples, write_run
from tests.tiny.recipes import tiny_recipe

ROOT = Path(__file__).parents[2]
TEMPLATES = [*ROOT.glob("taid_vlm/**/*.html.jinja"), *ROOT.glob("eval/**/*.html.jinja")]
DO = "top.document.documentElement.setAttribute('data-hacked', '1')"
PLANTS = [
    f"<script>{DO}</script>",
    f'"><img src=x onerror="{DO}">',
    f"' autofocus onfocus={DO} x='",
    f"</script><script>{DO}</script>",
    f"</style></title></textarea><svg onload={DO}>",
    f"javascript:{DO}",
    f"[text](javascript:{DO})",
    f"<!--><iframe srcdoc='<script>{DO}</script>'></iframe>",
    f"]]><script>{DO}</script>",
    "{{ 7 * 191 }}{% raw %}",
    "&lt;b&gt;",
]
EVIL = " ".join(PLANTS)


def of_runs(folder: Path) -> str:
    run = write_run(folder / EVIL.replace("/", "_")[:100], "taid")
    write_examples(run, {"before": EVIL, "after": EVIL, "teacher": EVIL})
    (run / "trained.txt").write_text(EVIL + "\n")
    about = json.loads((run / "run.json").read_text())
    about["origin"] |= {"recipe": EVIL, "overrides": [EVIL], "changes": [[EVIL, EVIL, {EVIL: EVIL}]]}
    about["versions"][EVIL], about["device"] = EVIL, EVIL
    (run / "run.json").write_text(json.dumps(about))
    examples = run / "examples" / "examples.json"
    text = re.sub(r'"question": "[^"]*"', lambda _: f'"question": {json.dumps(EVIL)}', examples.read_text())
    examples.write_text(text)
    return run_page([read_run(run)])


def of_a_preview(_: Path) -> str:
    piece = Piece(EVIL, (1,), "text", True)
    sample = SampleView(EVIL, True, [], 3, [SideView("student", [1], 1, [piece])])
    figures = Figures(1, 1, 1, 0, 0, 8, (Dropped("other", 1, EVIL),), (), ())
    return preview_page(Preview(EVIL, EVIL, "train", EVIL, figures, [sample], (EVIL,)))


def of_a_comparison(folder: Path) -> str:
    rows = [{"id": f"{n} {EVIL}", "question": f"{n} {EVIL}", "answer": EVIL} for n in range(3)]
    (folder / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = write_task(folder, **task_content(description=EVIL))
    rules: dict[str, Callable[[Request], str]] = {"a": lambda _: EVIL, "b": lambda _: f"{EVIL} wrong"}
    for name, rule in rules.items():
        evaluate(FakeModel(rule, name=f"{name} {EVIL}"), [task], output_dir=folder / name)
    return compare_page(compare([folder / "a", folder / "b"], tasks_folders=[folder]), most=10)


def found() -> Found:
    chart = Chart(EVIL, EVIL, [Line(EVIL, [1, 2, 3], [1.0, 2.0, 3.0], 1)], EVIL, x_title=EVIL, missing=(EVIL,))
    return Found(EVIL, [Table(EVIL, [EVIL, EVIL], [[EVIL, EVIL]])], [EVIL], [chart], {})


PAGES: dict[str, Callable[[Path], str]] = {
    "run": of_runs,
    "preview": of_a_preview,
    "comparison": of_a_comparison,
    "analysis": lambda _: analysis_page(found()),
    "picture": lambda _: analysis_picture(found()),
}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_each_page_forbids_scripts_and_the_network(template: Path) -> None:
    text = template.read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"/>', text)
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed.pop("default-src") == "'none'"
    assert allowed.pop("style-src") == "'unsafe-inline'"
    assert set(allowed.values()) <= {"data:"}
    assert set(allowed) <= {"img-src"}
    assert "|safe" not in text.replace(" ", "")
    assert not re.search(r"<script|\son\w+=|javascript:|https?:", text)


def test_all_pages_are_looked_at() -> None:
    assert {path.name for path in TEMPLATES} == {"run_page.html.jinja", "page.html.jinja", "compare_page.html.jinja"}
    assert len(TEMPLATES) == len(PAGES) - 1  # the picture is none


@pytest.mark.slow
@needs_browser
def test_a_browser_runs_nothing_and_shows_the_text(tmp_path: Path) -> None:
    """All pages at once, in frames that may reach out of themselves, and without their policies: the escaping alone must do."""
    frames = []
    for name, make in PAGES.items():
        folder = tmp_path / name
        folder.mkdir()
        made = make(folder)
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*/>', "", made)
        assert (bare == made) == (name == "picture")
        frames.append(bare)
        assert "1337" not in made  # what looks like a template is none
    control = "<script>top.document.documentElement.setAttribute('data-control', '1')</script>"
    body = "".join(f'<iframe srcdoc="{html.escape(one)}"></iframe>' for one in [*frames, control])
    read = (
        "<script>onload = () => document.title = JSON.stringify([...document.querySelectorAll('iframe')].map("
        "one => one.contentDocument.documentElement.textContent))</script>"
    )
    (tmp_path / "all.html").write_text(
        f"<!DOCTYPE html><html><head><title></title></head><body>{body}{read}</body></html>"
    )
    seen = dump(tmp_path / "all.html")
    head = re.search(r"<html[^>]*>", seen)
    title = re.search(r"<title>(.*?)</title>", seen, re.S)
    assert head is not None
    assert title is not None
    assert "data-control" in head[0]  # a script in a frame would have been noticed
    assert "data-hacked" not in head[0]
    texts = json.loads(html.unescape(title[1]))[: len(frames)]
    for text in texts:
        for plant in PLANTS:
            assert plant in text.replace("\u00a0", " ")


def test_a_card_shows_hostile_text_as_text(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(language_model, easy_vqa).model_copy(
        update={"description": f"{EVIL}\n---\nlicense: mit\n```\n# x"}
    )
    card = model_card(recipe, EVIL, [EVIL], {EVIL: EVIL})
    _, fields, body = card.split("---\n", 2)
    assert "license: mit" not in fields
    prose = re.sub(r"^(`{3,})yaml\n.*?^\1$", "", body, flags=re.M | re.S)  # but for the recipe, in its fence
    assert not re.search(r"(?<!\\)<(script|img|svg|iframe|!--|/)", prose)
    assert not re.search(r"(?<!\\)\]\(javascript:", prose)
    assert prose.count("# x") == 0 or "\n# x" not in prose
