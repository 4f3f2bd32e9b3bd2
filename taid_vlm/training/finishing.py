"""The end of a run: the student that is kept is saved, with the average of its weights beside it."""

from taid_vlm.common.versions import versions
from taid_vlm.models.saved import save_student
from taid_vlm.models.student import Student
from taid_vlm.recipe.plug_ins import plug_in_versions
from taid_vlm.training.card import model_card
from taid_vlm.training.checkpoint import load_weights
from taid_vlm.training.ema import averaged_student
from taid_vlm.training.run_state import RunState


def finish(state: RunState) -> None:
    """Save the student: the last, or the best where that is kept; and the average of its weights."""
    recipe, setup, distribution = state.recipe, state.setup, state.distribution
    progress, say = state.progress, state.log.say
    if progress.dropped:
        say(f"samples left out of their steps, by reason: {progress.dropped_by_reason()}")
    for remark in setup.clock.remarks() if recipe.loss.name == "taid" else ():
        say(f"note: {remark}")
    average = state.options.average
    averaged = None if average is None else distribution.whole(average.weights)
    if progress.best_step is not None:
        if progress.best_step != progress.step:
            load_weights(state.checkpoints / f"step-{progress.best_step:06d}", setup.student)
        say(f"the student is that of step {progress.best_step}: {recipe.training.keep_best} {progress.best:.4f}")
    distribution.unshard(setup.student)
    if distribution.main:
        measured = [f"held-out {name}: {value:.4f}" for name, value in progress.figures.items()]
        card = model_card(recipe, state.run_dir.name, measured, versions() | plug_in_versions(recipe))

        def save(student: Student, name: str) -> None:
            folder = state.run_dir / name
            save_student(student, setup.processor, recipe.student, folder, weights=recipe.save, card=card)

        if averaged is not None:
            save(averaged_student(recipe, averaged), "student-ema")
        # Last, for it says that the run is finished; adapters are merged into it.
        save(setup.student, "student")
    distribution.accelerator.wait_for_everyone()
