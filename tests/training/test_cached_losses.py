"""What a run learns from a cache is what it learns from the teacher: bit by bit in fp32, to the rounding of the type otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.data import Join, PairedBatch, PreparedRecords, make_loader
from taid_vlm.data.packing import Packing
from taid_vlm.losses import TopK
from taid_vlm.recipe import Recipe
from taid_vlm.training import loop, train
from taid_vlm.training.cache import fill as filling
from taid_vlm.training.cache.forms import HiddenStates, MostLikely, head_of
from taid_vlm.training.cache.measure import CHOICES, INFINITE, Loss, measured, table
from taid_vlm.training.setup import Setup
from taid_vlm.training.step import DistillationStep, loss_of
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.recipes import logged_steps, tiny_recipe
from tests.training.cache_cases import distil, language_recipe, set_up, write_varied_vqa

CPU = torch.device("cpu")
TEXT, VISION = "language-only", "vision"


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_varied_vqa(tmp_path_factory.mktemp("varied"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, language_model: Path, varied: Path) -> Path:
    return train(tiny_recipe(language_model, varied), tmp_path_factory.mktemp("teacher") / "run")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain language model as the teacher, with a head of its own."""
    return save_tiny_llama(tmp_path_factory.mktemp("plain") / "llama", seed=3, hidden=48, tied=False)


@pytest.fixture(params=[TEXT, VISION])
def recipe_of(request: pytest.FixtureRequest, language_model: Path, varied: Path, checkpoint: Path, plain: Path) -> Any:
    def make(enabled: bool = True, fill: str = "before", **changes: Any) -> Recipe:
        cache = {k: changes.pop(k) for k in ("dtype", "top_k", "tail") if k in changes}
        if request.param == VISION:
            return distil(language_model, varied, checkpoint, enabled=enabled, fill=fill, **cache)
        teacher = {
            "language_model": {"source": str(plain)},
            "cache": {"enabled": enabled, "fill": fill, **cache},
        }
        return language_recipe(language_model, plain, teacher=teacher)

    return make


def batch_of(setup: Setup, order: list[int], packed: bool) -> PairedBatch:
    """A batch that both a cached and an online teacher can be asked about."""
    packing = Packing(160) if packed else None
    records = PreparedRecords(setup.train.records, setup.train.pairer, False, decode_pictures=True)
    (batch,) = make_loader(records, [order], Join(setup.processor.tokenizer.eos_token_id, packing))
    return batch


def loss(setup: Setup, batch: PairedBatch) -> float:
    recipe_loss = tiny_recipe(Path("x"), Path("x")).loss
    module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe_loss).eval()
    return float(loss_of(setup, module, batch, CPU, t=1.0).loss.detach())


@pytest.mark.parametrize("packed", [False, True])
def test_losses_are_those_of_the_teacher_online(recipe_of: Any, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    online = set_up(recipe_of(enabled=False))
    order = [7, 3, 11, 0, 5, 2]
    # The pass that fills the cache meets the very batch.
    monkeypatch.setattr(filling, "_batches", lambda cache, missing, prepared: [order])
    cached = set_up(recipe_of())
    batch = batch_of(online, order, packed)
    same_rows = batch_of(online, order, packed=False)
    assert sorted(batch.ids) == sorted(same_rows.ids)
    exact, found = loss(online, batch), loss(cached, batch)
    assert found == pytest.approx(exact, rel=1e-5)
    assert exact > 0
    if packed:
        assert batch.ids != same_rows.ids  # packing puts them in another order, which the states must follow
        assert batch.student.input_ids.shape[0] < len(order)
    else:
        truth, states = online.teacher_hidden(batch, CPU), cached.teacher_hidden(batch, CPU)
        assert isinstance(truth, torch.Tensor)
        assert isinstance(states, torch.Tensor)
        assert torch.equal(truth, states)
        assert found == exact


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_a_shorter_type_rounds_and_no_more(recipe_of: Any, dtype: str, digits: float) -> None:
    exact, rounded = set_up(recipe_of()), set_up(recipe_of(dtype=dtype))
    batch = batch_of(exact, [0, 1, 2, 3], packed=False)
    truth, found = exact.teacher_hidden(batch, CPU), rounded.teacher_hidden(batch, CPU)
    assert isinstance(truth, torch.Tensor)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    assert torch.equal(found, truth.to(getattr(torch, dtype)).float())
    assert float(((found - truth).abs() / truth.abs().clamp(min=1e-3)).max()) <= digits
    assert loss(rounded, batch) == pytest.approx(loss(exact, batch), rel=3e-2)


@pytest.mark.parametrize("tail", ["uniform", "none"])
def test_the_likeliest_tokens_are_those_of_the_dense_teacher(recipe_of: Any, tail: str) -> None:
    online = set_up(recipe_of(enabled=False))
    cached = set_up(recipe_of(top_k=5, tail=tail))
    batch = batch_of(online, [4, 1, 2], packed=False)
    dense, found = online.teacher_hidden(batch, CPU), cached.teacher_hidden(batch, CPU)
    assert isinstance(dense, torch.Tensor)
    assert isinstance(found, TopK)
    assert online.teacher is not None
    logits = head_of(dense, online.teacher).logits()
    probabilities = logits.softmax(-1).topk(5)
    torch.testing.assert_close(found.log_probs.exp(), probabilities.values, rtol=1e-4, atol=1e-6)
    assert (found.ids == probabilities.indices).float().mean() > 0.9  # near ties may change places
    assert found.tail == tail
    assert loss(cached, batch) > 0


def test_both_tail_rules_read_the_same_shards(recipe_of: Any) -> None:
    folders = set()
    for tail in ("uniform", "none"):
        setup = set_up(recipe_of(top_k=5, tail=tail))
        assert setup.cache is not None
        folders.add(setup.cache.folder)
    assert len(folders) == 1


def test_an_empty_batch_has_no_rows(recipe_of: Any) -> None:
    for changes in ({}, {"top_k": 3, "tail": "uniform"}):
        setup = set_up(recipe_of(**changes))
        batch = batch_of(setup, [0], packed=False)
        empty = PairedBatch([], batch.labels[:0], batch.student, None, [], [], [])
        found = setup.teacher_hidden(empty, CPU)
        assert (found.rows if isinstance(found, TopK) else len(found)) == 0  # type: ignore[arg-type]


def test_a_tail_rule_that_the_loss_cannot_have_is_refused(language_model: Path, plain: Path) -> None:
    cache = {"enabled": True, "top_k": 3, "tail": "none"}
    teacher = {"language_model": {"source": str(plain)}, "cache": cache}
    with pytest.raises(UserError, match="tail rule"):
        set_up(language_recipe(language_model, plain, teacher=teacher, loss={"name": "rkl"}))


def test_the_table_of_choices(recipe_of: Any) -> None:
    setup = set_up(recipe_of(enabled=False))
    assert setup.teacher is not None
    assert setup.vocabulary is not None
    vocabulary = setup.teacher.head_weight.shape[0]
    against = Loss(setup.student, setup.processor, setup.store, setup.spec, setup.vocabulary)
    everything = [MostLikely(vocabulary, tail, "float32") for tail in ("uniform", "none")]
    forms = [*CHOICES, *everything]
    rows = measured(forms, against, setup.teacher, setup.train, setup.teacher_store, "fp32")
    assert len(rows) == len(forms)
    by_name = {row.name: row for row in rows}
    assert (rows[0].kl, rows[0].loss) == (0.0, 0.0)
    bf16, fp16 = by_name["hidden states in bfloat16"], by_name["hidden states in float16"]
    assert 0 < fp16.kl < bf16.kl < 1e-3
    assert bf16.row_bytes == fp16.row_bytes == rows[0].row_bytes // 2
    for row in rows[-2:]:  # nothing is left out
        assert abs(row.kl) < 1e-5
        assert row.loss is not None
        assert row.loss < 1e-4
    few, many = (
        by_name["top 8 log-probabilities in float16, uniform"],
        by_name["top 128 log-probabilities in float16, uniform"],
    )
    assert few.row_bytes == 8 * 6
    assert few.kl > many.kl > 0
    assert by_name["top 8 log-probabilities in float16, none"].kl > INFINITE
    shown = table(rows)
    assert "infinite" in shown
    assert all(row.name in shown for row in rows)


@pytest.mark.parametrize(
    "form", [HiddenStates("float32"), HiddenStates("bfloat16"), MostLikely(3, "uniform", "float16")]
)
def test_filled_in_the_first_epoch_the_run_is_that_of_the_teacher_online(
    tmp_path: Path, recipe_of: Any, form: Any
) -> None:
    """In fp32 the first epoch has the bits of an online run, and a second run those of the first."""
    stored = (
        {"dtype": form.dtype}
        if isinstance(form, HiddenStates)
        else {"dtype": form.dtype, "top_k": 3, "tail": "uniform"}
    )
    steps = {"steps": 12, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 100, "precision": "fp32", "trackers": []}
    runs = {}
    for name, recipe in (("online", recipe_of(enabled=False)), ("first", recipe_of(fill="first_epoch", **stored))):
        content = recipe.model_dump()
        content["training"] |= steps
        train(Recipe.model_validate(content), tmp_path / name)
        runs[name] = [row["loss"] for row in logged_steps(tmp_path / name)]
    epoch = 5  # of 20 or 24 samples, four to a step
    if form == HiddenStates("float32"):
        assert runs["first"][:epoch] == runs["online"][:epoch]
    if isinstance(form, HiddenStates):  # before the students part
        assert runs["first"][0] == pytest.approx(runs["online"][0], rel=1e-2)
    assert len(runs["first"]) == 12
    assert all(0 < value < 10 for value in runs["first"])


def test_later_epochs_do_not_ask_the_teacher(recipe_of: Any) -> None:
    setup = set_up(recipe_of(fill="first_epoch"))
    assert setup.cache is not None
    assert setup.cache.online
    batch = batch_of(setup, [3, 1, 2], packed=False)
    first = setup.teacher_hidden(batch, CPU)
    setup.teacher = type("Gone", (), {"model": None})()
    assert torch.equal(setup.teacher_hidden(batch, CPU), first)  # type: ignore[arg-type]
    setup.cache.flush()
    assert torch.equal(setup.teacher_hidden(batch, CPU), first)  # type: ignore[arg-type]


def test_a_sample_that_is_known_keeps_its_states(recipe_of: Any) -> None:
    """Begun again, the steps of a killed run meet other samples on disk; what is given out must not depend on it."""
    setup = set_up(recipe_of(fill="first_epoch"))
    one, two = batch_of(setup, [3, 1], packed=False), batch_of(setup, [1, 2], packed=False)
    first = setup.teacher_hidden(one, CPU)
    second = setup.teacher_hidden(two, CPU)
    assert setup.cache is not None
    assert torch.equal(torch.cat([setup.cache.take(one.ids), setup.cache.take(two.ids)]), torch.cat([first, second]))  # type: ignore[list-item]
    setup.cache.flush()
    again = set_up(recipe_of(fill="first_epoch"))
    assert torch.equal(again.teacher_hidden(two, CPU), second)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_that_fills_in_its_first_epoch_goes_on_to_the_same_bits(
    tmp_path: Path, recipe_of: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the first epoch and in the second, each time between two checkpoints."""
    content = recipe_of(fill="first_epoch", dtype=dtype).model_dump()
    content["training"] |= {"steps": 12, "batch_size": 4, "checkpoint_every": 2, "precision": "fp32", "trackers": []}
    recipe = Recipe.model_validate(content)
    save, step = loop._Run._save, loop._Run._step
    stop_at = [0]

    def save_after_meeting(run: Any) -> None:
        run.setup.cache.meet(run.distribution)
        save(run)

    def step_or_stop(run: Any, batches: Any) -> None:
        if run.progress.step == stop_at[0]:
            raise InterruptedError
        step(run, batches)

    monkeypatch.setattr(loop._Run, "_save", save_after_meeting)
    train(recipe, tmp_path / "quiet")
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(loop._Run, "_step", step_or_stop)
    for stop_at[0] in (3, 9):
        with pytest.raises(InterruptedError):
            train(recipe, tmp_path / "stopped")
    stop_at[0] = 100
    train(recipe, tmp_path / "stopped")
    for file in ("metrics.jsonl", "student/model.safetensors"):
        assert (tmp_path / "quiet" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()
