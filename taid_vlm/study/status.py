"""How far the study is."""

from taid_vlm.study.go import Asked
from taid_vlm.study.plan import TUNING_SEED
from taid_vlm.study.records import Records


def told(asked: Asked) -> list[str]:
    """A line for each setting: finished runs, and how long the missing ones will take at the pace of the finished."""
    records = Records(asked.out, asked.results)
    jobs = asked.jobs(records)
    lines = []
    for setting in asked.settings():
        own = [job for job in jobs if job.setting is setting]
        for what, some in (
            ("learning rates", [job for job in own if job.seed == TUNING_SEED]),
            ("seeds", [job for job in own if job.seed != TUNING_SEED]),
        ):
            done = [found for job in some if job.lr is not None and (found := records.of(job)) is not None]
            mean = sum(one.seconds for one in done) / len(done) if done else None
            pace = "" if mean is None else f", {mean:.0f} s of training each"
            if some:
                lines.append(f"{setting.name}, {what}: {len(done)} of {len(some)} runs{pace}")
    return lines
