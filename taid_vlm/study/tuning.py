"""Which learning rate each method keeps: that whose student is best on the validation split of the main setting."""

from collections.abc import Iterable

from taid_vlm.study.plan import Setting, tuning_jobs
from taid_vlm.study.records import Record, Records

# What a pair's students are judged by. It is the aim of none of the methods: the answer for charts, the likeliest token for text.
PRIMARY = {"a": "exact", "b": "agreement"}


def chosen_rates(settings: Iterable[Setting], records: Records) -> dict[tuple[str, str], float]:
    """Learning rate by setting and method, where every rate that the method tries has been tried."""
    chosen = {}
    for setting in settings:
        tried: dict[str, list[Record | None]] = {}
        for job in tuning_jobs(setting):
            tried.setdefault(job.method, []).append(records.of(job))
        for method, found in tried.items():
            done = [record for record in found if record is not None]
            sound = [record for record in done if not record.failed]
            if len(done) == len(found) and sound:
                figure = PRIMARY[setting.pair]
                best = max(sound, key=lambda record: (record.figures["validation"][figure], -record.lr))
                chosen[setting.name, method] = best.lr
    return chosen
