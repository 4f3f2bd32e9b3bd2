"""Which packages of somebody else's a recipe needs."""

from taid_vlm.common.plug_ins import DATA_SOURCES, LOSSES, PROJECTORS, TRACKERS, VISION_ENCODERS, PlugIn, plug_ins
from taid_vlm.recipe.schema import Recipe


def plug_ins_of(recipe: Recipe) -> list[PlugIn]:
    """Those that the recipe names, not imported."""
    student, loss = recipe.student, recipe.loss
    sources = [*recipe.data.train, *recipe.data.validation]
    named = {
        VISION_ENCODERS: {student.vision_encoder.library} if student.vision_encoder else set(),
        PROJECTORS: {student.projector.name} if student.projector else set(),
        LOSSES: {loss.name, loss.divergence},
        DATA_SOURCES: {source.kind for source in sources},
        TRACKERS: set(recipe.training.trackers),
    }
    return [one for group, names in named.items() for one in plug_ins(group) if one.name in names]


def plug_in_versions(recipe: Recipe) -> dict[str, str]:
    """Versions by package, to be written down beside those of :func:`taid_vlm.common.versions.versions`."""
    return {one.package: one.version for one in plug_ins_of(recipe)}
