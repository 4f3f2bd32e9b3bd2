"""The printed tables, and which targets were met."""

from typing import Any

OURS, FLOOR = "taid, fused", "four products"
LIGER = ("Liger chunked", "Liger chunked, compiled")
GPU_SECONDS, GPU_BYTES = 0.040, 3 * 10**9


def verdicts(report: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """Each target with what was measured; ``met`` is None where a peer did not run."""
    found = []
    for vocabulary, result in report["by_vocabulary"].items():
        times = {name: value["median"] for name, value in result["seconds"].items()}
        memory = result["extra_bytes"]
        if device == "cuda":
            found += [
                _target(vocabulary, "seconds", times[OURS], GPU_SECONDS),
                _target(vocabulary, "bytes beyond weights and gradients", memory[OURS], GPU_BYTES),
                *(_target(vocabulary, f"time over {name}", _ratio(times, name), 1.0) for name in LIGER),
                *(_target(vocabulary, f"extra memory over {name}", _ratio(memory, name), 1.0) for name in LIGER),
            ]
            continue
        found += [
            _target(vocabulary, "time over the plain form", times[OURS] / times["taid, plain"], 0.45),
            _target(vocabulary, "extra memory over the plain form", memory[OURS] / memory["taid, plain"], 0.10),
            *(_target(vocabulary, f"time over {name}", _ratio(times, name), 0.7) for name in LIGER),
            _target(vocabulary, "time over the four products", times[OURS] / times[FLOOR], 1.15),
        ]
    return found


def print_report(report: dict[str, Any]) -> None:
    """Tables in Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in report["hardware"].items() if value is not None)
    size = report["size"]
    print(f"{about}\n{size['dtype']}, widths {size['width']} and {size['teacher_width']}, {size['rows']} rows; ")
    print(f"forward and backward, medians of {report['rounds']} rounds; memory beyond inputs and gradients")
    for vocabulary, result in report["by_vocabulary"].items():
        _print_comparison(vocabulary, result)
    if report["by_rows"]:
        _print_by_rows(report["by_rows"])
    if "by_loss" in report:
        floor = report["by_loss"][FLOOR]["median"]
        print("\nEvery loss, fused\n\n| loss | ms | over the four products |\n|---|---|---|")
        for name, result in report["by_loss"].items():
            print(f"| {name} | {1e3 * result['median']:.1f} | {result['median'] / floor:.3f} |")
    print("\n| target | vocabulary | limit | measured | |\n|---|---|---|---|---|")
    for row in report["targets"]:
        measured = "-" if row["measured"] is None else f"{row['measured']:.3g}"
        verdict = {True: "met", False: "missed", None: "not run"}[row["met"]]
        print(f"| {row['target']} | {row['vocabulary']} | {row['limit']:g} | {measured} | {verdict} |")


def _print_by_rows(by_rows: dict[int, Any]) -> None:
    print("\nTAID, fused, by rows\n\n| rows | ms | ms per 1,000 rows | extra MB |\n|---|---|---|---|")
    for rows, result in by_rows.items():
        ms = 1e3 * result["seconds"]["median"]
        print(f"| {rows} | {ms:.1f} | {1e3 * ms / rows:.1f} | {result['extra_bytes'] / 1e6:.1f} |")


def _print_comparison(vocabulary: int, result: dict[str, Any]) -> None:
    floor = result["seconds"][FLOOR]["median"]
    print(f"\nVocabulary {vocabulary:,}, chunks of {result['chunk_rows']} rows\n")
    print("| | ms | min to max | over the four products | extra MB | gradient off by |\n|---|---|---|---|---|---|")
    for name, timing in result["seconds"].items():
        memory, error = result["extra_bytes"].get(name), result["gradient_error"].get(name)
        spread = f"{1e3 * timing['min']:.0f} to {1e3 * timing['max']:.0f}"
        cells = [
            name,
            f"{1e3 * timing['median']:.1f}",
            spread,
            f"{timing['median'] / floor:.3f}",
            "" if memory is None else f"{memory / 1e6:.1f}",
            "" if error is None else f"{error:.1e}",
        ]
        print("| " + " | ".join(cells) + " |")
    for name, reason in result["not_run"].items():
        print(f"| {name} | not run: {reason} | | | | |")


def _ratio(values: dict[str, float], theirs: str) -> float | None:
    return values["kl, fused"] / values[theirs] if theirs in values else None


def _target(vocabulary: int, what: str, measured: float | None, limit: float) -> dict[str, Any]:
    met = None if measured is None else measured <= limit
    return {"vocabulary": vocabulary, "target": what, "limit": limit, "measured": measured, "met": met}
