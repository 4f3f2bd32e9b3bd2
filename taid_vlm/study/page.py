"""The page of the study: tables and figures from the records, and what was learnt from them, which a person writes into ``reading.txt`` in Markdown."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from taid_vlm.common.files import write_atomic
from taid_vlm.study.compare import Row, rows_of, teacher_row
from taid_vlm.study.markdown import heads, line, points
from taid_vlm.study.methods import METHODS
from taid_vlm.study.overview import by_length, overview
from taid_vlm.study.pictures import draw_clocks, draw_differences
from taid_vlm.study.plan import SETTINGS, Setting, tuning_jobs
from taid_vlm.study.records import Record, Records
from taid_vlm.study.tuning import PRIMARY, chosen_rates

READING = "reading.txt"
COLUMNS = {
    "a": (
        ("exact", "exact match", 100),
        ("visual_reliance", "reliance", 100),
        ("cross_entropy", "CE", 1),
        ("kl", "KL(t, s)", 1),
        ("reverse_kl", "KL(s, t)", 1),
    ),
    "b": (
        ("agreement", "agreement", 100),
        ("rouge_l", "ROUGE-L", 100),
        ("rouge_l_teacher", "ROUGE-L, teacher", 100),
        ("cross_entropy", "CE", 1),
        ("kl", "KL(t, s)", 1),
        ("reverse_kl", "KL(s, t)", 1),
    ),
}
HOW = """\
# The controlled study

Every figure on this page is made by `taid-vlm study report` from `docs/results/study/records.jsonl`; `taid-vlm study` makes the runs that are
missing there, then this page. A run that was stopped goes on, and a finished one is not made again. [Reproduce a part](#again) says how.

**Pair (a)**, charts: small charts drawn from ten real tables of the vega-datasets package, questions of eleven kinds with answers of one word (6,000
to train on, 300 to validate, 600 to test; no number of a table is in two splits). Teacher: SmolLM2-135M with LoRA and a frozen EfficientNet-Lite0.
Student: the first and the last of its 30 layers with a projector of its own, first fine-tuned on the labels, which all methods start from. Judged by exact match of the whole answer. "Reliance" is what a blank
picture costs in exact match, on the first 300 questions of the test split.

**Pair (b)**, definitions: "What does the noun longimetry mean?", answered by definitions of 3 to 16 words from the GCIDE dictionary (3,000 words to train
on, 100 to validate, 160 to test). Teacher: SmolLM2-135M-Instruct as it is. Student: ten of its 30 layers, first fine-tuned on the labels of 4,800 other
words, which all methods start from. Only runs of 4,800 updates meet a word twice. Judged by agreement: how often teacher and student have the same likeliest
token at the tokens of held-out definitions. No method minimises it, yet it is the teacher's opinion that is imitated, not the definition that is judged; ROUGE-L of
greedy answers stands beside it.

**Equal treatment.** In the main settings every method of a table tries the same learning rates once, on a seed that is used nowhere else, and keeps the one
with the best student on the validation split. The settings around use the rates of their main one. All methods take the same number of updates of the
same size on the same samples in the same order; the seed decides the order. GKD and DistiLLM alone write answers of their
own, so they see other ones. The clocks of TAID run from 0.4 to 1 with alpha_total 5.9, but where a setting says otherwise.

**Intervals and tests.** "±" is half a 95 % t-interval over seeds. A difference from KL has a 95 % bootstrap interval over seeds and test items at once,
the exact two-sided p of flipping signs over seeds, and that p corrected by Holm for all methods of its table. With five seeds no p is below 0.0625, with
three none below 0.25, with two none below 0.5, so the tests alone can never reject: read the intervals. Learning rates are chosen from a few values on one seed, so a method that
sits at an end of its range may be better than its row.
"""
AGAIN = """\
## Reproduce a part
<a id="again"></a>

```bash
taid-vlm study status                       # what is finished
taid-vlm study run --only charts --seeds 2  # a setting, or a pair: a, b; fewer seeds
taid-vlm study run --methods kl,taid        # some methods
taid-vlm study run --jobs 2                 # two runs at a time; more processes may be started beside
taid-vlm study report                       # this page
```

Started without `docs/results/study/records.jsonl`, the first command makes every run anew: `taid-vlm study --results FOLDER` writes page and records
elsewhere. The teacher of the charts ships with the recipes; `taid-vlm study prepare` and `taid-vlm train study/charts/teacher` make another one.
"""


def write_page(out: Path, results: Path) -> Path:
    """Write records, figures and the page ``<results>.md``; returns the page."""
    records = Records(out, results)
    results.mkdir(parents=True, exist_ok=True)
    records.write_lines(results)
    chosen = chosen_rates(SETTINGS, records)
    parts = [HOW]
    if (results / READING).is_file():
        parts.append((results / READING).read_text().strip() + "\n")
    tables = {setting: rows_of(setting, chosen, records) for setting in SETTINGS}
    if any(tables.values()):
        parts.append("\n".join(overview(tables)) + "\n")
    if lengths := list(by_length(tables)):
        parts.append("\n".join(lengths) + "\n")
    for setting, rows in tables.items():
        if rows:
            parts.append("\n".join(_section(setting, rows, chosen, records, results)) + "\n")
    parts += [AGAIN, "\n".join(_what_ran(records)) + "\n"]
    page = results.parent / f"{results.name}.md"
    write_atomic(page, "\n".join(parts))
    return page


def _section(
    setting: Setting, rows: list[Row], chosen: dict[tuple[str, str], float], records: Records, results: Path
) -> Iterator[str]:
    yield f"## {setting.title[0].upper()}{setting.title[1:]} (`{setting.name}`)\n"
    counts = Counter(len(row.runs) for row in rows)
    missing = len(setting.methods) * setting.seeds - sum(len(row.runs) + row.failed for row in rows)
    told = ", ".join(
        f"{n} {'method has' if n == 1 else 'methods have'} {c}" for c, n in sorted(counts.items(), reverse=True)
    )
    yield f"Seeds by method: {told}; runs of the plan that are not made: {missing}.\n"
    yield from table(setting, rows, _teacher(rows, records))
    differences, clocks = results / f"{setting.name}.png", results / f"{setting.name}-clocks.png"
    draw_differences(rows, differences)
    if differences.is_file():
        yield f"\n![difference from KL]({results.name}/{differences.name})"
    draw_clocks(rows, clocks)
    if clocks.is_file():
        yield f"\n![t by update]({results.name}/{clocks.name})"
    if setting.rates:
        yield "\nLearning rates tried, and the figure on the validation split (one seed):\n"
        yield from tried(setting, chosen, records)


def _teacher(rows: list[Row], records: Records) -> Row | None:
    """The row of the teacher, where it was measured and is the same in all runs."""
    found = {one.key: one for row in rows for run in row.runs.values() if (one := records.teacher_of(run))}
    return teacher_row(next(iter(found.values()))) if len(found) == 1 else None


def table(setting: Setting, rows: Sequence[Row], teacher: Row | None = None) -> Iterator[str]:
    """Figures of the teacher, of each method, and its difference from KL."""
    columns = COLUMNS[setting.pair]
    names = ["method", "lr", "seeds", *(name for _, name, _ in columns), "difference from KL", "p", "Holm"]
    yield from heads(names, len(names) - 1)
    if teacher is not None:
        cells = ["*teacher*", "", "", *(_figure(teacher, name, scale) for name, _, scale in columns)]
        yield line([*cells, "", "", ""])
    for row in rows:
        seeds = f"{len(row.runs)}" + (f", {row.failed} failed" if row.failed else "")
        cells = [METHODS[row.method].title, f"{row.lr:g}" if row.lr else "", seeds]
        cells += [_figure(row, name, scale) for name, _, scale in columns]
        yield line([*cells, *_difference(row)])


def _figure(row: Row, name: str, scale: int) -> str:
    if name not in row.figures:
        return ""
    mean, half = row.figures[name]
    digits = 1 if scale == 100 else 3
    return f"{mean * scale:.{digits}f}" + ("" if half is None else f" ± {half * scale:.{digits}f}")


def _difference(row: Row) -> list[str]:
    if row.difference is None:
        return ["", "", ""]
    return [points(row.difference, row.interval), *("" if one is None else f"{one:.3f}" for one in (row.p, row.holm))]


def tried(setting: Setting, chosen: dict[tuple[str, str], float], records: Records) -> Iterator[str]:
    """The validation figure by method and learning rate; the rate that was kept in bold."""
    figure = PRIMARY[setting.pair]
    found: dict[str, dict[float, str]] = {}
    for job in tuning_jobs(setting):
        record, cell = records.of(job), ""
        if record is not None:
            cell = "failed" if record.failed else f"{100 * record.figures['validation'][figure]:.1f}"
        assert job.lr is not None
        kept = chosen.get((setting.name, job.method)) == job.lr
        found.setdefault(job.method, {})[job.lr] = f"**{cell}**" if kept else cell
    yield from heads(["method", *(f"{rate:g}" for rate in setting.rates)], len(setting.rates))
    for method, cells in found.items():
        yield line([METHODS[method].title, *(cells[rate] for rate in setting.rates)])


def _what_ran(records: Records) -> Iterator[str]:
    yield "## What ran it\n"
    yield "| machine | versions | made of | runs | hours of training |"
    yield "|---|---|---|---:|---:|"
    groups: dict[tuple[str, str, str], list[Record]] = {}
    runs = [record for record in records.all.values() if record.is_run]
    for record in runs:
        machine = ", ".join(
            f"{value} {name}" if name == "threads" else str(value) for name, value in record.hardware.items()
        )
        versions = ", ".join(
            f"{name} {number}" for name, number in record.versions.items() if name in ("torch", "transformers")
        )
        parts = ", ".join(f"{name} {digest[:8]}" for name, digest in record.made_of.items())
        groups.setdefault((machine, versions, parts), []).append(record)
    for (machine, versions, parts), some in sorted(groups.items()):
        hours = sum(record.seconds for record in some) / 3600
        yield f"| {machine} | {versions} | {parts} | {len(some)} | {hours:.1f} |"
    tuned = sum(record.tuning for record in runs)
    yield f"\nOf {len(runs)} runs {tuned} tried a learning rate. Runs are compared only where they are made of the same parts."
