"""The printed tables of ``step.py``, and which targets were met."""

from typing import Any

from taid_vlm.training.timing import LAPS, OTHER

# Each target: the part, what is measured, whether it is a floor or a ceiling, and where.
PASSES, EPOCH, TOKENS, MEMORY, TWO = 0.85, 2.0, 5.0, 0.2, 1.6


def verdicts(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target of the parts that were run; ``met`` is None where nothing could be measured."""
    found = []
    if "split" in parts:
        found.append(_floor("teacher and student passes, share of a step", parts["split"]["share_of_passes"], PASSES))
    if "cache" in parts:
        found.append(_floor("cached epoch, times as fast as online", parts["cache"]["speedup_of_an_epoch"], EPOCH))
    if "official" in parts:
        ours, theirs = (parts["official"]["contestants"][f"taid, {who}"] for who in ("ours", "official"))
        for name, what in (("answer_tokens_per_second", "answer tokens"), ("tokens_per_second", "tokens, no padding")):
            found.append(_floor(f"{what} per second over the official step", ours[name] / theirs[name], TOKENS))
        ratio = ours["peak_bytes"] / theirs["peak_bytes"]
        found.append(
            {"target": "peak memory over the official step", "limit": MEMORY, "measured": ratio, "met": ratio <= MEMORY}
        )
    if "processes" in parts:
        ratio = parts["processes"].get("ratio")
        found.append(_floor("samples per second, two processes over one", ratio, TWO))
    return found


def print_report(report: dict[str, Any]) -> None:
    """Tables in Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in report["hardware"].items() if value is not None)
    print(f"{about}\n{report['recipe']}, {report['precision']}, {report['rounds']} rounds. {report['gpu']}")
    for name, show in (("split", _split), ("cache", _cache), ("official", _official), ("processes", _processes)):
        if name in report["parts"]:
            show(report["parts"][name])
    print("\n| target | limit | measured | |\n|---|---|---|---|")
    for row in report["targets"]:
        measured = "-" if row["measured"] is None else f"{row['measured']:.3g}"
        print(f"| {row['target']} | {row['limit']:g} | {measured} | {_VERDICT[row['met']]} |")


_VERDICT = {True: "met", False: "missed", None: "not run"}


def _split(part: dict[str, Any]) -> None:
    print(f"\nA step of {part['batch']} samples: {_ms(part['seconds'])} ms, teacher online\n")
    print("| part | ms | min to max | share |\n|---|---|---|---|")
    for name, lap in part["laps"].items():
        spread = f"{1e3 * lap['min']:.1f} to {1e3 * lap['max']:.1f}"
        print(f"| {name.replace('_', ' ')} | {_ms(lap)} | {spread} | {lap['share']:.1%} |")
    print(
        f"\nAlone: teacher forward {_ms(part['teacher_alone'])} ms, student forward and backward {_ms(part['student_alone'])} ms, "
        f"together {part['share_of_passes']:.1%} of a step"
    )


def _cache(part: dict[str, Any]) -> None:
    epoch, online, filling = part["epoch"], part["epoch"]["online"], part["filling"]["median"]
    print(
        f"\nEpochs of {part['samples_per_epoch']} samples, steps of {part['batch']}. Seconds, and times as fast as online\n"
    )
    print("| | teacher online | cache filled before | cache filled on the way |\n|---|---|---|---|")
    print(f"| an epoch, cache full | {online['median']:.2f} | {_against(epoch['cached'], online)} | |")
    for count, run in part["runs"].items():
        cells = [_against(run[name], run["online"]) for name in ("cached", "on the way")]
        print(f"| a run of {count} epochs | {run['online']['median']:.2f} | {cells[0]} | {cells[1]} |")
    print(f"\nFilling before the first step: {filling:.2f} s, which the runs of the second column include")


def _against(seconds: dict[str, Any], online: dict[str, Any]) -> str:
    return f"{seconds['median']:.2f} ({online['median'] / seconds['median']:.2f})"


def _official(part: dict[str, Any]) -> None:
    print(f"\nSteps of {part['batch']} samples, teacher online; the official step pads to {part['length']} tokens\n")
    print("| step | ms | answer tokens/s | tokens/s | peak MiB of the process |\n|---|---|---|---|---|")
    for name, row in part["contestants"].items():
        rates = f"{row['answer_tokens_per_second']:.2f} | {row['tokens_per_second']:.1f}"
        print(f"| {name} | {_ms(row['seconds_per_step'])} | {rates} | {row['peak_bytes'] / 2**20:.0f} |")
    for name, reason in part["not_run"].items():
        print(f"| {name} | not run: {reason} | | | |")


def _processes(part: dict[str, Any]) -> None:
    if "not_run" in part:
        print(f"\nTwo processes: not run: {part['not_run']}")
        return
    print(
        f"\nSteps of {part['batch']} samples in micro-batches of {part['micro_batch']}, one thread and one core a process\n"
    )
    names = (*LAPS, OTHER)
    print(f"| processes | samples/s | {' | '.join(f'{name} ms'.replace('_', ' ') for name in names)} |")
    print("|---" * (len(names) + 2) + "|")
    for count, rate in part["samples_per_second"].items():
        laps = " | ".join(f"{1e3 * part['laps'][count][f'seconds_{name}']:.1f}" for name in names)
        print(f"| {count} | {rate['median']:.2f} | {laps} |")
    print(f"\nTwo over one: {part['ratio']:.2f}")


def _ms(samples: dict[str, Any]) -> str:
    return f"{1e3 * samples['median']:.1f}"


def _floor(what: str, measured: float | None, limit: float) -> dict[str, Any]:
    return {
        "target": what,
        "limit": limit,
        "measured": measured,
        "met": None if measured is None else measured >= limit,
    }
