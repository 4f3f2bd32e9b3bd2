"""Plans for many GPUs: one GPU as before, DDP as before, every way, and what is recommended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.launch import STRATEGIES as STARTED
from taid_vlm.losses import LossSpec
from taid_vlm.models.assemble import build_student
from taid_vlm.models.saved import save_student
from taid_vlm.planning import Cluster, Plan, Rates, make_plan, show
from taid_vlm.planning import memory as memory_
from taid_vlm.planning.asked import asked_of
from taid_vlm.planning.cards import fits
from taid_vlm.planning.job import Job
from taid_vlm.planning.models import build_models
from taid_vlm.planning.placements import EXACT
from taid_vlm.planning.running import Running
from taid_vlm.planning.samples import sample_records
from taid_vlm.planning.scale import CLOSE, scale_plan
from taid_vlm.planning.stored import loaded_from
from taid_vlm.planning.strategies import SEVERAL
from taid_vlm.recipe import Recipe
from tests.tiny.recipes import distil, tiny_recipe

TRAINING = {"steps": 8, "batch_size": 8, "micro_batch_size": 1, "lr": 5e-3, "precision": "bf16"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Callable[..., Recipe]:
    folder = tmp_path_factory.mktemp("scale") / "teacher"
    spec = tiny_recipe(language_model, easy_vqa).student
    student, processor = build_student(spec)
    save_student(student, processor, spec, folder)

    def make(cache: bool = False, **changes: Any) -> Recipe:
        return distil(language_model, easy_vqa, folder, cache, **{"training": TRAINING, **changes})

    return make


def plan(recipe: Recipe, gpus: int = 1, compare: bool = False, **options: Any) -> Plan:
    return make_plan(recipe, gpus=gpus, process=0, cluster=Cluster(**options), compare=compare)


def gpu(made: Plan) -> dict[str, dict[str, int]]:
    return {phase.name: phase.parts for phase in made.memory[1].phases}


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("gpus", [1, 4])
def test_a_copied_student_is_planned_as_it_was_measured(recipe: Callable[..., Recipe], gpus: int, cache: bool) -> None:
    """The phases of memory.py, which are compared with runs, put together here again."""
    made = recipe(cache)
    spec = LossSpec.of(**made.loss.objective)
    models = build_models(made, spec)
    samples = sample_records(made, models)
    job = Job(made, spec, models, samples, loaded_from(made, models), gpus, 1)
    sizes, teacher = job.sizes, job.teacher(True, cache)
    held = memory_.held(made, models, samples, sizes, job.loaded, memory_.GPU_CONTEXT, True)
    _, encoder = job.features()
    assert teacher is not None
    assert encoder is not None
    expected = (
        memory_.features_phase(held, encoder, sizes, 0),
        memory_.teacher_phase(held, teacher, sizes, in_step=not cache),
        memory_.training_phase(held, job.step(True, True, Running()), sizes, gpus, 0),
        memory_.update_phase(held, sizes, gpus, True),
    )
    assert plan(made, gpus).memory[1].phases == expected


def test_one_gpu_has_one_strategy(recipe: Callable[..., Recipe]) -> None:
    assert gpu(plan(recipe(), strategy="fsdp2")) == gpu(plan(recipe()))
    assert plan(recipe(), strategy="fsdp2").scale.chosen.sent == 0


def test_sharding_takes_less_and_keeps_the_activations_in_fp32(recipe: Callable[..., Recipe]) -> None:
    training = {**TRAINING, "precision": "fp32"}
    ddp, fsdp2 = (gpu(plan(recipe(training=training), 4, strategy=name)) for name in ("ddp", "fsdp2"))
    whole, share = ddp["optimizer step"], fsdp2["optimizer step"]
    for part in ("gradients", "optimizer state"):
        assert share[part] == -(-whole[part] // 4)
    assert fsdp2["forward and backward"]["activations"] == pytest.approx(
        ddp["forward and backward"]["activations"], rel=0.02
    )


def test_gradient_checkpointing_of_the_recipe_is_planned(recipe: Callable[..., Recipe]) -> None:
    plain, kept = (plan(recipe(training={**TRAINING, "gradient_checkpointing": on})) for on in (False, True))
    assert kept.flops.student > plain.flops.student
    assert kept.scale.chosen.option.checkpointing


def test_the_teachers_place_of_the_recipe_is_planned(recipe: Callable[..., Recipe]) -> None:
    content = recipe().model_dump()
    content["teacher"]["placement"] = "sharded"
    sharded = plan(Recipe.model_validate(content), 4)
    whole = plan(recipe(), 4)
    assert gpu(sharded)["optimizer step"]["teacher weights"] < gpu(whole)["optimizer step"]["teacher weights"]
    assert "teacher" in sharded.scale.chosen.option.wire.sent


def test_every_way_is_compared(recipe: Callable[..., Recipe]) -> None:
    made = plan(recipe(), 8, compare=True, nodes=2)
    options = [choice.option for choice in made.scale.choices]
    assert len(options) == 4 * (5 + 2) * 2
    assert len({(o.strategy, o.teaching, o.checkpointing) for o in options}) == len(options)
    for choice in made.scale.choices:
        assert choice.peak == max(phase.total for phase in choice.option.phases)
        assert choice.fits_on == tuple(name for name in choice.fits_on if fits(choice.peak, float(name.split()[-2])))
    for one in made.scale.recommended:
        assert one.choice is not None
        assert one.choice.option.teaching is not None
        assert one.choice.option.teaching.placement in EXACT
        assert one.choice.pace.card == one.card
    # On the named card nothing that may be recommended is faster by more than the margin.
    named = next(one.choice for one in made.scale.recommended if one.card == made.scale.cluster.card)
    assert named is not None
    others = [
        c.pace.hours
        for c in made.scale.choices
        if c.option.teaching is not None and c.option.teaching.placement in EXACT
    ]
    assert named.pace.hours <= CLOSE * min(others)


def test_a_cache_that_there_is_no_room_for_is_not_recommended(recipe: Callable[..., Recipe]) -> None:
    made = recipe(training={**TRAINING, "steps": 800})  # hundreds of epochs, after which every cache has paid
    models = build_models(made, LossSpec.of(**made.loss.objective))
    samples = sample_records(made, models)
    job = Job(made, LossSpec.of(**made.loss.objective), models, samples, loaded_from(made, models), 2, 1)
    slow = Rates(utilisation=1e-4, hidden=0)  # where the arithmetic of tiny models is seen
    for disk, kept in ((10.0, True), (0.0, False)):
        scale = scale_plan(job, asked_of(made), True, Cluster(disk_tb=disk, rates=slow), compare=True)
        for one in scale.recommended:
            assert one.choice is not None
            assert one.choice.option.teaching is not None
            assert one.choice.option.teaching.cached == kept, (one.card, one.choice.pace)


def test_the_cache(recipe: Callable[..., Recipe]) -> None:
    made = plan(recipe(), 2)
    cache = made.scale.cache
    assert cache is not None
    bytes_of_a_row = 32 * 4  # the tiny teacher's width, in fp32
    assert cache.row_bytes == bytes_of_a_row
    assert cache.disk_bytes == pytest.approx(32 * 4.5 * bytes_of_a_row, rel=0.15)
    assert cache.epochs == pytest.approx(8 * 8 / 24)
    nothing_hidden = Cluster(rates=Rates(hidden=0))
    more = make_plan(recipe(), gpus=2, process=0, records=24_000, cluster=nothing_hidden).scale.cache
    assert more is not None
    assert more.disk_bytes == pytest.approx(24_008 / 32 * cache.disk_bytes, rel=1e-6)
    # It costs a pass of the teacher over the data, as every epoch without it does.
    assert more.pays_after == pytest.approx(1, rel=0.35)


def test_all_of_it_is_json_and_text(recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(recipe(), 4, compare=True, nodes=2, strategy="fsdp2")
    scale = json.loads(json.dumps(made.to_json()))["scale"]
    assert len(scale["choices"]) == 56
    assert scale["chosen"]["option"]["wire"]["sent"].keys() == {"weights", "gradients"}
    assert scale["chosen"]["sent"] == sum(scale["chosen"]["option"]["wire"]["sent"].values())
    show(made)
    text = capsys.readouterr().out
    for words in ("student fsdp2, teacher replicated", "GB sent by each GPU", "samples/s", "To choose", "H200 141 GB"):
        assert words in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "fsdp"}, "did you mean"),
        ({"strategy": "single"}, "unknown strategy 'single' for several GPUs"),
        ({"nodes": 3}, "cannot be dealt evenly to 3 nodes"),
        ({"card": "H100"}, "unknown card 'H100'"),
    ],
)
def test_what_cannot_be_planned_is_refused(recipe: Callable[..., Recipe], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(recipe(), 4, **options)


def test_every_strategy_can_be_started() -> None:
    assert set(SEVERAL) == set(STARTED)
