"""From a recipe to its plan."""

from pathlib import Path

from taid_vlm.export.plan import export_plan
from taid_vlm.losses import LossSpec, TAIDClock
from taid_vlm.models.native.model import NativeModel
from taid_vlm.planning.asked import asked_of
from taid_vlm.planning.cards import verdicts
from taid_vlm.planning.job import Job
from taid_vlm.planning.memory import MemoryPlan
from taid_vlm.planning.models import Models, build_models
from taid_vlm.planning.parts import lengths_of, parts_of, pictures_of
from taid_vlm.planning.running import Running
from taid_vlm.planning.samples import SAMPLE, micro_batch, sample_records, scaled
from taid_vlm.planning.scale import Cluster, scale_plan
from taid_vlm.planning.schema import LengthPlan, Plan
from taid_vlm.planning.stored import loaded_from
from taid_vlm.recipe.schema import Recipe


def make_plan(
    recipe: Recipe,
    *,
    gpus: int = 1,
    cpu_precision: str = "fp32",
    samples: int = SAMPLE,
    process: int | None = None,
    cluster: Cluster | None = None,
    compare: bool = False,
    records: int | None = None,
) -> Plan:
    """Everything about a run that can be told without its weights.

    Args:
        gpus: processes of the run, each with a GPU of its own.
        cpu_precision: fp32 or bf16, what ``training.precision: auto`` means on this machine's processor.
        samples: records that are rendered at most.
        process: resident bytes of a process that has imported training and the tokenizers; those of this process when
            left out, which is right where it has done nothing else.
        cluster: nodes, strategy, card and rates; one node, the recipe's strategy and the usual rates when left out.
        compare: plan every strategy with every place of the teacher.
        records: of the whole data set, where the recipe's sources are a sample of it.

    Raises:
        UserError: what training would refuse before its first step.
    """
    spec = LossSpec.of(**recipe.loss.objective)
    clock = TAIDClock(recipe.training.steps, **recipe.loss.clock)
    micro = micro_batch(recipe, gpus)
    models = build_models(recipe, spec)
    exports = export_plan(models.student, models.processor, recipe.student)
    found = sample_records(recipe, models, samples)
    base = resident() if process is None else process
    if records is not None:
        found = scaled(found, records)
    asked = asked_of(recipe)
    job = Job(recipe, spec, models, found, loaded_from(recipe, models), gpus, micro, asked.state_bytes)
    wanted = recipe.training.precision
    precision = {"cpu": cpu_precision if wanted == "auto" else wanted, "gpu": "bf16" if wanted == "auto" else wanted}
    on_cpu = job.on_cpu(precision["cpu"] != "fp32", base, Running(asked.checkpointing))  # activations are there already
    scale = scale_plan(job, asked, precision["gpu"] != "fp32", cluster or Cluster(), compare)
    on_gpu, flops = MemoryPlan("gpu", scale.chosen.option.phases), scale.chosen.option.flops
    images, encoder = models.processor.images, models.student.vision_encoder
    lengths = lengths_of(recipe, models, found)
    return Plan(
        description=recipe.description,
        gpus=gpus,
        micro_batch=micro,
        micro_batches=job.micro_batches,
        precision=precision,
        parts=parts_of(recipe, models),
        grid=encoder.contract.grid if encoder is not None else None,
        tokens_per_tile=images.per_tile if images is not None else None,
        pictures=pictures_of(models),
        lengths=lengths,
        vocabulary=job.vocabulary,
        memory=(on_cpu, on_gpu),
        cards=verdicts(on_gpu.highest.total, flops.hours(gpus)),
        flops=flops,
        scale=scale,
        export=exports,
        warnings=(*(clock.warnings() if spec.name == "taid" else ()), *_warnings(recipe, lengths, models)),
    )


def resident() -> int:
    """Resident bytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * 4096


def _warnings(recipe: Recipe, lengths: LengthPlan, models: Models) -> list[str]:
    found = []
    if lengths.context is not None and lengths.longest > lengths.context:
        found.append(
            f"the longest sample has {lengths.longest} tokens, the language model was made for {lengths.context}: lower "
            f"data.max_length, or take fewer tiles"
        )
    if recipe.data.answers == "teacher":
        found.append(
            "the teacher writes the answers first: neither its memory nor its time for that is planned, and lengths are those of "
            "the data set's own answers"
        )
    if recipe.on_policy.sampler != "none":
        found.append(
            "the student writes answers in training: neither its memory nor its time for that is planned, and lengths are those of the "
            "data set's own answers"
        )
    if recipe.teacher is not None and recipe.teacher.cache.enabled and recipe.teacher.cache.fill == "first_epoch":
        found.append(
            "memory and time are those of the first epoch, in which the teacher's cache is filled; later ones take less"
        )
    if models.teacher is not None and isinstance(models.teacher.model, NativeModel):
        found.append(
            "of the teacher's vision tower the weights are counted, but neither its activations nor its arithmetic; those of its "
            "language model are, pictures' tokens included"
        )
    return found
