"""Judges by name: the rules alone, a model behind a server, or any checkpoint here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.registry import Registry
from taid_vlm_eval.models import OpenOptions, open_model, require_model
from taid_vlm_eval.models.protocol import Model


@dataclass
class Judge:
    """A model that reads answers. It is opened when the first answer needs it.

    Attributes:
        kind: the name under :data:`JUDGES`.
        open: gives the model.
    """

    kind: str
    open: Callable[[], Model] = field(repr=False)

    @cached_property
    def model(self) -> Model:
        return self.open()

    @property
    def name(self) -> str:
        """As results and tables have it."""
        return f"{self.kind}:{self.model.name}"


JUDGES: Registry[Callable[[str, OpenOptions], Judge | None]] = Registry("judge")


@JUDGES.register("rule")
def _by_rule(name: str, options: OpenOptions) -> None:
    if name:
        raise UserError(f"the judge 'rule' takes nothing behind it, found {name!r}")


@JUDGES.register("openai")
def _served(address: str, options: OpenOptions) -> Judge:
    model = open_model(address, "openai", timeout=options.timeout, key_variable=options.key_variable)
    return Judge("openai", lambda: model)


@JUDGES.register("local")
def _local(path: str, options: OpenOptions) -> Judge:
    require_model(path)
    return Judge(
        "local",
        lambda: open_model(
            path, device=options.device, dtype=options.dtype, trust_remote_code=options.trust_remote_code
        ),
    )


def open_judge(spec: str, options: OpenOptions | None = None) -> Judge | None:
    """The judge of ``rule``, ``openai:MODEL@URL`` or ``local:PATH``; None for the rules alone.

    A server is asked a short question at once; a checkpoint is only looked for, and loaded when it is needed.

    Args:
        options: as for the model under evaluation; the key of a server may be another one's.

    Raises:
        UserError: none of the three forms, or a model that cannot be had.
    """
    kind, colon, rest = spec.partition(":")
    if kind not in JUDGES:
        raise UserError(
            f"unknown judge {kind!r}: {did_you_mean(kind, JUDGES)}; expected rule, openai:MODEL@URL or local:PATH"
        )
    if kind != "rule" and not rest:
        raise UserError(f"the judge {kind!r} needs a model behind a colon: openai:MODEL@URL or local:PATH")
    return JUDGES.get(kind)(rest if colon else "", options or OpenOptions())
