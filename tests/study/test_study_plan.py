"""The plan: every run is a recipe that loads, and runs of a setting differ in what they should and in nothing else."""

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.study.methods import METHODS
from taid_vlm.study.plan import SETTINGS, TUNING_SEED, Job, comparison_jobs, jobs_in_order, setting_of, tuning_jobs


def test_every_method_of_every_setting_is_a_recipe_of_its_own() -> None:
    digests = set()
    count = 0
    for setting in SETTINGS:
        for method in setting.methods:
            digests.add(Job(setting, method, 0, 1e-3).digest())
            count += 1
    assert len(digests) == count


def test_methods_of_a_setting_differ_in_loss_and_own_answers_alone() -> None:
    for setting in SETTINGS:
        base = Job(setting, setting.methods[0], 3, 1e-3).recipe().model_dump()
        for method in setting.methods[1:]:
            other = Job(setting, method, 3, 1e-3).recipe().model_dump()
            allowed = {"loss"} | ({"teacher", "data", "training", "on_policy"} if METHODS[method].writes else set())
            assert {key for key in base if base[key] != other[key]} <= allowed, (setting.name, method)
            same = ("steps", "batch_size", "lr", "warmup_steps", "schedule", "weight_decay")
            assert all(base["training"][key] == other["training"][key] for key in same)


def test_every_row_of_the_paper_s_table_is_there_with_five_seeds_on_both_pairs() -> None:
    rows = {"sft", "kl", "rkl", "tvd", "adaptive_kl", "gkd", "distillm", "ctkd", "dkd", "taid_linear", "taid"}
    mains = [setting_of("charts"), setting_of("words")]
    assert {setting.pair for setting in mains} == {"a", "b"}
    for setting in mains:
        assert rows <= set(setting.methods)
        assert setting.seeds >= 5
        assert len(setting.rates) >= 3


def test_some_setting_is_long_enough_for_the_clock_to_leave_the_line() -> None:
    recipe = Job(setting_of("charts-long"), "taid", 0, 1e-3).recipe()
    assert recipe.training.steps > 4000
    assert recipe.loss.alpha == 5e-4
    assert recipe.loss.alpha * recipe.training.steps > 2


def test_seeds_and_rates_are_in_the_recipe_and_the_key() -> None:
    setting = setting_of("charts")
    tuned, compared = Job(setting, "kl", TUNING_SEED, 3e-4), Job(setting, "kl", 2, 3e-4)
    assert (tuned.key, compared.key) == ("charts/kl/lr-0.0003", "charts/kl/seed-2")
    assert compared.recipe().seed == 2
    assert compared.recipe().training.lr == 3e-4
    assert tuned.digest() != compared.digest() != Job(setting, "kl", 2, 1e-3).digest()
    keys = [job.key for job in jobs_in_order(SETTINGS, {})]
    assert len(keys) == len(set(keys))


def test_a_digest_does_not_depend_on_the_description_or_on_defaults_that_are_written_out() -> None:
    setting = setting_of("charts")
    job = Job(setting, "kl", 0, 1e-3)
    written = Job(
        type(setting)(**{**vars(setting), "overrides": ("loss.beta=0.99", "description=another")}), "kl", 0, 1e-3
    )
    assert written.recipe() != job.recipe()
    assert written.digest() == job.digest()


def test_the_tuning_seed_is_no_seed_of_the_comparison() -> None:
    for setting in SETTINGS:
        assert setting.seeds < TUNING_SEED
        assert all(job.seed == TUNING_SEED for job in tuning_jobs(setting))


def test_seeds_come_one_after_the_other_for_all_methods() -> None:
    setting = setting_of("charts")
    jobs = list(comparison_jobs(setting, {("charts", "kl"): 1e-3}))
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    assert {job.lr for job in jobs if job.method == "kl"} == {1e-3}
    assert {job.lr for job in jobs if job.method == "rkl"} == {None}


def test_settings_around_use_the_rates_of_a_setting_that_tunes() -> None:
    for setting in SETTINGS:
        source = setting_of(setting.rates_from)
        assert source.rates
        assert source.pair == setting.pair
        assert set(setting.methods) <= set(source.methods)


def test_an_unknown_setting_is_told_with_close_names() -> None:
    with pytest.raises(UserError, match="charts"):
        setting_of("chart")


def test_sft_of_the_study_is_cross_entropy_and_nothing_else() -> None:
    options = {}
    for text in METHODS["sft"].overrides:
        key, value = text.removeprefix("loss.").split("=")
        options[key] = value if key == "name" else float(value)
    generator = torch.Generator().manual_seed(0)
    head, hidden, teacher = (torch.randn(*shape, generator=generator) for shape in ((20, 8), (6, 8), (6, 8)))
    labels = torch.arange(6)

    def gradient(spec: LossSpec, **more: torch.Tensor) -> torch.Tensor:
        own = hidden.clone().requires_grad_()
        distillation_loss(own, head, labels, spec=spec, **more).loss.backward()
        assert own.grad is not None
        return own.grad

    ours = gradient(LossSpec.of(**options), teacher_hidden_ND=teacher, teacher_head_UD=head)
    torch.testing.assert_close(ours, gradient(LossSpec.of("sft")), rtol=1e-6, atol=1e-7)
