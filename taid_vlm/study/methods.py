"""The methods that are compared, each as what it changes in a student's recipe."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        title: as the tables show it.
        overrides: ``key.path=value`` over the recipe of a setting.
        writes: answers of the student's own are learnt from, so the teacher cannot be cached and a run takes longer.
        ours: an experiment of this toolkit.
    """

    title: str
    overrides: tuple[str, ...]
    writes: bool = False
    ours: bool = False


# alpha_total is the paper's rate for a whole run: its 5e-4 per update would leave t on the straight line below 4,000 updates.
_TAID = ("loss.name=taid", "loss.t_start=0.4", "loss.t_end=1.0")
_OWN_ANSWERS = ("teacher.cache.enabled=false",)

METHODS: dict[str, Method] = {
    # The cross-entropy alone, as of loss.name=sft; named so, its runs also measure the teacher.
    "sft": Method("SFT", ("loss.name=kl", "loss.kd_weight=0", "loss.ce_weight=1")),
    "kl": Method("KL", ("loss.name=kl",)),
    "rkl": Method("RKL", ("loss.name=rkl",)),
    "tvd": Method("TVD", ("loss.name=tvd",)),
    "jsd": Method("JSD", ("loss.name=jsd", "loss.options.beta=0.1")),
    "sfkl": Method("skew KL", ("loss.name=sfkl", "loss.options.skew=0.1")),
    "gkd": Method(
        "GKD",
        (*_OWN_ANSWERS, "loss.name=jsd", "loss.options.beta=0.1", "on_policy.sampler=mixed", "on_policy.share=0.5"),
        writes=True,
    ),
    "distillm": Method(
        "DistiLLM",
        (*_OWN_ANSWERS, "loss.name=srkl", "loss.options.skew=0.1", "on_policy.sampler=adaptive"),
        writes=True,
    ),
    "adaptive_kl": Method("Adaptive KL", ("loss.name=adaptive_kl",)),
    "ctkd": Method("CTKD", ("loss.name=ctkd",)),
    "dkd": Method("DKD", ("loss.name=dkd",)),
    "taid_linear": Method("TAID, linear", (*_TAID, "loss.schedule=linear")),
    "taid_exponential": Method("TAID, exponential", (*_TAID, "loss.schedule=exponential", "loss.alpha_total=5.9")),
    "taid": Method("TAID", (*_TAID, "loss.schedule=adaptive", "loss.alpha_total=5.9")),
    "taid_set_point": Method(
        "TAID, set point",
        (*_TAID, "loss.schedule=set_point", "loss.set_point=0.1", "loss.alpha_total=5.9"),
        ours=True,
    ),
}
