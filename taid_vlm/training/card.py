"""The model card that is saved with a student: what it is made from and under which licences, how it learnt, what was measured."""

from taid_vlm.common.markdown import card, fenced, plain, table
from taid_vlm.common.origins import Origin, about_licence, origin_of, shared_licence
from taid_vlm.losses import LossSpec
from taid_vlm.models.origins import part_origins
from taid_vlm.recipe.data_spec import DataSource
from taid_vlm.recipe.loading import dump_recipe
from taid_vlm.recipe.schema import Recipe

OPTIMIZER = ("optimizer", "lr", "schedule", "warmup_steps", "weight_decay", "betas", "max_grad_norm", "ema")
LIMITS = """What was not measured is not known: other tasks and languages than those above, long conversations, safety. Mistakes and
bias of the teacher and of the data may have been learnt with the rest."""


def model_card(recipe: Recipe, name: str, measured: list[str], used: dict[str, str]) -> str:
    """Markdown with the fields that a hub reads.

    Args:
        measured: a line for each figure. used: versions by package.
    """
    figures = "\n".join(f"- {plain(line)}" for line in measured) or "- nothing during training"
    packages = "\n".join(f"- {plain(f'{key} {value}')}" for key, value in used.items())
    body = f"""# {plain(name)}

{plain(recipe.description) or "A student trained with taid-vlm."}

Open it with `taid_vlm.load_student(folder)`, or ask it: `taid-vlm chat FOLDER`.

## Parts

{_made_from(recipe)}

## Training

{_training(recipe)}

## Measured

{figures}

## Limits

{LIMITS}

## Versions

{packages}

## Recipe

{fenced(dump_recipe(recipe), "yaml")}
"""
    return card(_fields(recipe), body)


def _fields(recipe: Recipe) -> dict[str, object]:
    sees = recipe.student.vision_encoder is not None
    parts = [one.origin for one in part_origins(recipe.student) if one.origin is not None]
    bases = _hub_ids(parts)
    adapters = recipe.save == "trained" and recipe.student.train.language_model.mode == "lora"
    return {
        "library_name": "taid-vlm",
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "license": shared_licence(_origins(recipe)),
        "language": list(parts[0].languages),
        "base_model": bases,
        "base_model_relation": ("adapter" if adapters else "finetune") if bases else None,
        "datasets": _hub_ids([_data_origin(source) for source in recipe.data.train]),
        "tags": ["taid-vlm", *(["distillation"] if recipe.teacher is not None else [])],
    }


def _hub_ids(origins: list[Origin]) -> list[str]:
    return list(dict.fromkeys(one.hub for one in origins if one.hub))


def _origins(recipe: Recipe) -> list[Origin]:
    """Of all that the student is made from, each once: its parts, the teacher, the data."""
    parts = [one.origin for one in part_origins(recipe.student) if one.origin is not None]
    teacher = teacher_origin(recipe)
    return list(dict.fromkeys([*parts, *([teacher] if teacher else []), *map(_data_origin, recipe.data.train)]))


def teacher_origin(recipe: Recipe) -> Origin | None:
    """Where the teacher is from; None without one."""
    teacher = recipe.teacher
    if teacher is None:
        return None
    if teacher.checkpoint is not None:
        return origin_of(teacher.checkpoint, revision=teacher.revision)
    assert teacher.language_model is not None  # the schema sees to it
    return origin_of(teacher.language_model.source, revision=teacher.language_model.revision)


def _data_origin(source: DataSource) -> Origin:
    return origin_of(source.path, "dataset")


def _made_from(recipe: Recipe) -> str:
    trained = recipe.student.train
    how: dict[str, str] = {"projector": trained.projector.mode}
    for part, spec in (("language model", trained.language_model), ("vision encoder", trained.vision_encoder)):
        how[part] = f"lora of rank {spec.lora.rank}" if spec.mode == "lora" else spec.mode
    rows = [
        (one.part, one.name, one.origin.licence if one.origin else "random start", how[one.part])
        for one in part_origins(recipe.student)
    ]
    if teacher := teacher_origin(recipe):
        rows.append(("teacher", teacher.name, teacher.licence, ""))
    rows += [*sources_of(recipe.data.train, "data"), *sources_of(recipe.data.validation, "held-out data")]
    parts = table(("part", "source", "licence", "how"), [tuple(map(plain, row)) for row in rows])
    return f"{parts}\n\n{about_licence(_origins(recipe), 'student', 'the licences of parts, teacher and data')}"


def sources_of(sources: list[DataSource], what: str) -> list[tuple[str, str, str, str]]:
    """``(what, name, licence, which part was taken)`` of each source, not escaped."""
    origins = map(_data_origin, sources)
    return [(what, one.name, one.licence, _taken(source)) for one, source in zip(origins, sources, strict=True)]


def _taken(source: DataSource) -> str:
    """Which part of a data set was learnt from."""
    told = [f"config {source.config}" if source.config else "", f"split {source.split}"]
    told += [
        f"{source.limit} records" if source.limit else "",
        f"weight {source.weight:g}" if source.weight != 1 else "",
    ]
    return ", ".join(one for one in told if one)


def _training(recipe: Recipe) -> str:
    loss, training, data = recipe.loss, recipe.training, recipe.data
    spec = LossSpec.of(**loss.objective)
    rows = [("loss", spec.name), ("weights", f"distillation {spec.kd_weight:g}, cross-entropy {spec.ce_weight:g}")]
    if spec.divergence and spec.divergence != spec.name:
        rows.append(("divergence", spec.divergence))
    rows += [(name, str(value)) for name, value in spec.options.items()]
    if loss.name == "taid":
        rows += [(f"clock: {name}", str(value)) for name, value in loss.clock.items() if value is not None]
    if data.answers == "teacher":
        rows.append(("answers", "the last ones written by the teacher"))
    if recipe.on_policy.sampler != "none":
        rows.append(("answers of the student itself", recipe.on_policy.sampler))
    rows += [("steps", f"{training.steps}, each of {training.batch_size} samples of up to {data.max_length} tokens")]
    values = training.model_dump(include=set(OPTIMIZER))
    rows += [(name, str(values[name])) for name in OPTIMIZER if values[name] is not None]
    rows += [("precision", training.precision), ("seed", str(recipe.seed))]
    return table(("what", "value"), [tuple(map(plain, row)) for row in rows])
