"""``taid-vlm cache``: fill a recipe's cache and end, or only measure what each choice would cost."""

from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from pydantic import ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.common.progress import waiting
from taid_vlm.recipe import Recipe
from taid_vlm.training.cache.measure import CHOICES, Loss, measured, table
from taid_vlm.training.cache.store import TeacherCache
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.lost_processes import lost_processes
from taid_vlm.training.precision import choose_precision
from taid_vlm.training.setup import prepare


def fill_cache(recipe: Recipe, *, measure: bool = False) -> TeacherCache | None:
    """Compute what the cache of a recipe is missing, on all processes that were started, and tell what it takes.

    Args:
        measure: print a table of ways to keep the teacher instead, and keep nothing.

    Returns:
        The cache; on processes other than the first, and for ``measure``, None.

    Raises:
        UserError: a recipe without a teacher that is asked in training, or anything in it that cannot work.
    """
    if recipe.teacher is None or recipe.loss.name == "sft":
        raise UserError(
            "there is nothing to cache: the recipe asks no teacher (teacher, and a loss.name other than sft)"
        )
    if recipe.teacher.placement == "served":
        raise UserError(
            "there is nothing to cache: teacher.placement: served gives no hidden states; set another placement"
        )
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=recipe.training.timeout_minutes))
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])
    distribution = Distribution(accelerator)
    # As training chooses, but for all alike: it is part of what decides the folder.
    precision = str(distribution.gather(choose_precision(recipe.training.precision, accelerator.device))[0])
    set_seed(recipe.seed)
    say: Callable[[str], None] = accelerator.print
    say(f"the teacher runs in {precision}" + (" (chosen by timing)" if recipe.training.precision == "auto" else ""))
    filled = None
    with lost_processes(distribution):
        if measure:
            _measure(recipe, accelerator, precision, say)
        else:
            filled = prepare(_with_cache(recipe, enabled=True), accelerator, None, precision, say).cache
        accelerator.wait_for_everyone()
    accelerator.end_training()
    return filled if accelerator.is_main_process else None


def held(cache: TeacherCache) -> dict[str, str | int]:
    """What a cache holds of a recipe's data, for scripts: folder, form, samples, answer tokens, bytes on disk of the whole folder."""
    return {
        "folder": str(cache.folder),
        "form": cache.form.name,
        "samples": len({key for key in cache.keys.values() if key in cache.index}),
        "answer_tokens": cache.rows(),
        "bytes": sum(shard.size for shard in cache.index.shards.values()),
    }


def _with_cache(recipe: Recipe, *, enabled: bool) -> Recipe:
    """The recipe, its cache filled before anything else or left alone."""
    assert recipe.teacher is not None
    content = recipe.model_dump()
    content["teacher"]["cache"] |= {"enabled": enabled, "fill": "before"}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"this recipe's teacher cannot be cached: {error.errors()[0]['msg']}") from error


def _measure(recipe: Recipe, accelerator: Accelerator, precision: str, say: Callable[[str], None]) -> None:
    setup = prepare(_with_cache(recipe, enabled=False), accelerator, None, precision, say)
    assert setup.teacher is not None
    assert setup.vocabulary is not None
    loss = Loss(setup.student, setup.processor, setup.store, setup.spec, setup.vocabulary)
    with waiting("measuring"):
        rows = measured(CHOICES, loss, setup.teacher, setup.train, setup.teacher_store, precision)
    say(table(rows))
