"""Plug-ins are found by exact name, imported when they are named, and told of plainly when they cannot work."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.common.plug_ins import KINDS, LOSSES, all_plug_ins, plug_in, plug_ins
from taid_vlm.common.registry import Registry
from taid_vlm.losses import LossSpec, distillation_loss, forward_kl
from taid_vlm.losses.methods import DIVERGENCES
from taid_vlm.models.specs import VisionEncoderSpec
from tests.plug_ins.page import PAGE, write_distribution

BRANCHES = """
import torch
def squared(student, teacher, scale: float = 1.0):
    return scale * (student.float() - teacher.float()).square().mean(-1)
def kl_again(student, teacher):
    p = teacher.log_softmax(-1)
    return (p.exp() * (p - student.log_softmax(-1))).sum(-1)
def averaged(student, teacher):
    return (student - teacher).square().mean()
def nameless(student, teacher, scale):
    return scale * student.sum(-1)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(DIVERGENCES, "_asked", {})
    monkeypatch.delitem(sys.modules, "branches", raising=False)
    return folder


def install_losses(site: Path) -> None:
    names = {name: f"branches:{name}" for name in ("squared", "kl_again", "averaged", "nameless")}
    write_distribution(site, "branch-losses", {LOSSES: names}, branches=BRANCHES)
    sys.path.insert(0, sys.path.pop(0) + "/")  # another path, so that it is read anew


def test_the_page_and_the_code_have_the_same_groups() -> None:
    named = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `taid_vlm.")}
    assert named == set(KINDS)


def test_nothing_is_imported_before_it_is_named(site: Path) -> None:
    install_losses(site)
    assert {"squared", "kl_again"} <= {one.name for one in plug_ins(LOSSES)}
    assert any(one.package == "branch-losses" and one.version == "1.0" for one in all_plug_ins())
    with pytest.raises(UserError, match="'squarred': did you mean 'squared'"):
        LossSpec.of("squarred")
    assert "branches" not in sys.modules
    LossSpec.of("squared")
    assert "branches" in sys.modules


def heads() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(7, 4, generator=generator), torch.randn(11, 4, generator=generator)
    return {
        "student_hidden_NH": hidden.requires_grad_(),
        "student_head_VH": head.requires_grad_(),
        "labels_N": torch.arange(7),
        "teacher_hidden_ND": torch.randn(7, 5, generator=generator),
        "teacher_head_UD": torch.randn(11, 5, generator=generator),
    }


def both(spec: LossSpec, **options: Any) -> list[tuple[torch.Tensor, ...]]:
    """Value and gradients by the fused and by the plain way, with chunks of a row or two."""
    found = []
    for implementation, chunk in (("fused", 100), ("fused", None), ("plain", None)):
        given = heads()
        out = distillation_loss(**given, spec=spec, implementation=implementation, chunk_bytes=chunk, **options)
        out.loss.backward()
        found.append((out.loss.detach(), given["student_hidden_NH"].grad, given["student_head_VH"].grad))
    return found


@pytest.mark.parametrize("spec", [{"name": "squared", "scale": 0.5}, {"name": "taid", "divergence": "kl_again"}])
def test_a_plain_function_is_fused_with_the_heads(site: Path, spec: dict[str, Any]) -> None:
    install_losses(site)
    small, whole, plain = both(LossSpec.of(**spec), t=0.3)
    for some in (small, whole):
        for left, right in zip(some, plain, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_the_built_in_divergence_written_again_gives_the_same(site: Path) -> None:
    install_losses(site)
    for t in (0.0, 0.6, 1.0):
        for own, ours in zip(both(LossSpec.of("kl_again"), t=t), both(LossSpec.of("kl"), t=t), strict=True):
            for left, right in zip(own, ours, strict=True):
                torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_losses_that_cannot_work_are_told(site: Path) -> None:
    install_losses(site)
    with pytest.raises(UserError, match=r"'averaged' of the package branch-losses 1.0 gives values of shape \[\]"):
        LossSpec.of("averaged")
    with pytest.raises(UserError, match=r"option scale of the loss 'nameless'.*needs a default"):
        LossSpec.of("nameless")
    with pytest.raises(UserError, match="loss 'squared' has no option 'beta': it has scale"):
        LossSpec.of("squared", beta=1.0)
    with pytest.raises(UserError, match="not in the TAID authors' code"):
        LossSpec.of("squared", semantics="reference")


@pytest.mark.parametrize("name", ["kl", "taid", "sft"])
def test_a_name_that_is_built_in_is_refused_with_the_package(site: Path, name: str) -> None:
    write_distribution(site, "thief", {LOSSES: {name: "nowhere:f"}})
    with pytest.raises(UserError, match=f"loss '{name}' is built in.*thief 1.0.*pip uninstall thief"):
        LossSpec.of(name)


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    for package in ("one", "two"):
        write_distribution(site, package, {LOSSES: {"same": f"{package}_module:f"}})
    with pytest.raises(UserError, match=r"in the packages one 1.0 and two 1.0"):
        plug_in(LOSSES, "same")


@pytest.mark.parametrize(
    ("module", "value", "told"),
    [
        ("import no_such_module_here", "f", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("raise RuntimeError('no licence')", "f", "RuntimeError: no licence"),
        ("def g(): pass", "f", "AttributeError"),
        ("def f(:", "f", "SyntaxError"),
    ],
)
def test_an_import_that_fails_names_the_package(site: Path, module: str, value: str, told: str) -> None:
    write_distribution(site, "broken-pack", {LOSSES: {"crash": f"crashing:{value}"}}, crashing=module)
    sys.modules.pop("crashing", None)
    with pytest.raises(UserError, match=f"'crash' of the package broken-pack 1.0.*{told}.*pip uninstall broken-pack"):
        LossSpec.of("crash")


def test_registries_without_a_group_look_nowhere(site: Path) -> None:
    write_distribution(site, "thief", {"": {"x": "nowhere:f"}, LOSSES: {"x": "nowhere:f"}})
    registry: Registry[int] = Registry("thing")
    registry.register("x")(1)
    assert (registry.get("x"), registry.names()) == (1, ["x"])


def test_a_library_that_is_not_installed_is_told_by_the_spec() -> None:
    with pytest.raises(
        ValueError, match=r"unknown vision encoder library 'tim': did you mean 'timm'.*docs/plug-ins\.md"
    ):
        VisionEncoderSpec(library="tim", name="x", image_size=32)


PARTS = """
from torch import nn
class Bare(nn.Module): pass
class Unannotated(nn.Module):
    native_classes = ()
    def __init__(self, contract, hidden_size, *, width=3): pass
    def tokens_out(self): return 1
    def start(self, std): pass
def encoder(spec, weights): return "none"
def records(source):
    from taid_vlm.plug_ins import Record
    for i in range(3):
        yield Record(f"{source.path}-{i}", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], [])
"""


def test_projectors_encoders_and_sources(site: Path) -> None:
    from taid_vlm.data import read_records
    from taid_vlm.models.projectors import check_options
    from taid_vlm.models.vision_encoder import build_vision_encoder
    from taid_vlm.new.models_asked import encoder_of
    from taid_vlm.recipe.data_spec import DataSource

    entries = {
        "taid_vlm.projectors": {"bare": "mixed:Bare", "unannotated": "mixed:Unannotated", "call": "mixed:encoder"},
        "taid_vlm.vision_encoders": {"empty": "mixed:encoder"},
        "taid_vlm.data_sources": {"greetings": "mixed:records"},
    }
    write_distribution(site, "mixed-pack", entries, mixed=PARTS)
    sys.modules.pop("mixed", None)
    for name, told in (
        ("bare", "lacks tokens_out, start, native_classes"),
        ("call", "expected a class below"),
        ("unannotated", "option width of the projector 'unannotated'.*needs an annotation"),
    ):
        with pytest.raises(UserError, match=told):
            check_options(name, {})
    assert encoder_of("empty:x-384") == {"library": "empty", "name": "x-384", "image_size": 384}
    with pytest.raises(UserError, match=r"the vision encoder library 'empty' of the package mixed-pack 1\.0 gives str"):
        build_vision_encoder(VisionEncoderSpec(library="empty", name="x", image_size=32))
    found = read_records([DataSource(kind="greetings", path="here", limit=2)], seed=0)
    assert {record.id for record in found} <= {"here-0", "here-1", "here-2"}
    assert len(found) == 2


TASK = """
name: greet_task
description: say yes
data: {source: jsonl, path: items.jsonl, columns: {question: q, answer: a}}
generation: {max_new_tokens: 4}
scorer: half
metric: accuracy
"""
SCORER = """
from taid_vlm_eval.metrics.score import Score, Scorer
half = Scorer(lambda answer, truth: Score(0.5, "half"), ("half",), closed=False)
"""


def test_tasks_and_scorers(site: Path) -> None:
    from taid_vlm_eval.metrics import SCORERS
    from taid_vlm_eval.task_files import list_tasks, load_task

    entries = {
        "taid_vlm.tasks": {"greet_task": "greet_tasks", "lost_task": "greet_tasks"},
        "taid_vlm.scorers": {"half": "halves:half"},
    }
    write_distribution(site, "greetings", entries, halves=SCORER)
    (site / "greet_tasks").mkdir()
    (site / "greet_tasks" / "__init__.py").write_text("")
    (site / "greet_tasks" / "greet_task.yaml").write_text(TASK)
    assert {"greet_task", "easy_vqa"} <= set(list_tasks())
    assert load_task("greet_task").folder == site / "greet_tasks"
    assert SCORERS.get("half").apply("x", "y", {}).value == 0.5
    with pytest.raises(UserError, match=r"lost_task\.yaml, and is not there"):
        load_task("lost_task")
    write_distribution(site, "thief", {"taid_vlm.tasks": {"easy_vqa": "greet_tasks"}})
    sys.path.insert(0, sys.path.pop(0) + "/")
    with pytest.raises(UserError, match="task 'easy_vqa' is built in"):
        load_task("easy_vqa")


def test_forward_kl_is_what_kl_again_was_compared_with(site: Path) -> None:
    install_losses(site)
    student, teacher = torch.randn(3, 9), torch.randn(3, 9)
    torch.testing.assert_close(LossSpec.of("kl_again").method.plain(student, teacher), forward_kl(student, teacher))
