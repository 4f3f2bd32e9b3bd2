"""Loss and the path of t, as one PNG."""

import json
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_drawn
from taid_vlm.losses import linear_t
from taid_vlm.recipe.schema import Recipe


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """Rows of a run's training steps.

    Raises:
        UserError: the folder holds no run.
    """
    file = run_dir / "metrics.jsonl"
    if not file.is_file():
        raise UserError(f"{run_dir} holds no metrics.jsonl; expected the folder of a run")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def plot_runs(runs: dict[str, Path], taid: tuple[str, Recipe] | None, target: Path) -> None:
    """Cross-entropy on the labels of every run (comparable between methods), and t of the TAID run beside the straight line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, run_dir in runs.items():
        rows = read_metrics(run_dir)
        smooth = _smoothed([row["cross_entropy"] for row in rows])
        left.plot([row["step"] for row in rows], smooth, label=name, linewidth=1.6)
    left.set(
        xlabel="optimizer step", ylabel="cross-entropy on the labels (nats per token)", title="Training (smoothed)"
    )
    left.set_yscale("log")
    left.legend(frameon=False)
    if taid is not None and taid[0] in runs:
        rows = read_metrics(runs[taid[0]])
        loss, total = taid[1].loss, taid[1].training.steps
        steps = [row["step"] for row in rows]
        right.plot(steps, [row["t"] for row in rows], label=f"t of the run ({loss.schedule})", linewidth=2)
        line = [linear_t(int(step) - 1, total, loss.t_start, loss.t_end) for step in steps]
        right.plot(steps, line, "--", color="grey", label="straight line")
        right.set(xlabel="optimizer step", ylabel="t", ylim=(0, 1.05), title="TAID target: student (0) to teacher (1)")
        right.legend(frameon=False, loc="lower right")
    write_drawn(target, lambda file: figure.savefig(file, dpi=120))
    plt.close(figure)


def _smoothed(values: list[float], keep: float = 0.9) -> list[float]:
    out: list[float] = []
    for value in values:
        out.append(value if not out else keep * out[-1] + (1 - keep) * value)
    return out
