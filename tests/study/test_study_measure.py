"""Held-out figures against generation, and against the logits computed at once."""

import pytest
import torch

from taid_vlm.data import Pairer, Record
from taid_vlm.models.assemble import build_student
from taid_vlm.models.generate import generate_answers
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.teacher import teacher_from_language_model
from taid_vlm.study.measure import _by_sample, _figures, hold, measure
from tests.tiny.language_model import save_chatty_llama, save_tiny_llama

SPEC = {"chat_template": "chatml"}


def records(answers: list[str]) -> list[Record]:
    return [
        Record(f"r{i}", [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": answer}])
        for i, answer in enumerate(answers)
    ]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("measure")
    student_spec = LanguageModelSpec(source=str(save_chatty_llama(folder / "student")))
    teacher_spec = LanguageModelSpec(source=str(save_tiny_llama(folder / "teacher")))
    student, processor = build_student(StudentSpec(language_model=student_spec, **SPEC), 0)
    return student, processor, teacher_from_language_model(teacher_spec)


def test_an_answer_is_right_when_greedy_decoding_writes_it(parts) -> None:
    student, processor, teacher = parts
    questions = [[{"role": "user", "content": f"q{i}"}] for i in range(4)]
    written = generate_answers(student, processor, questions, [[] for _ in questions], 3)
    # Cut at three tokens, none of them ends: so each is right but for the token that ends the turn.
    answers = [text if text.strip() else "x" for text in written]
    samples = records([*answers[:2], "xyz", "zzz"])
    pairer = Pairer(processor, teacher.processor, 64)
    measured = measure(student, processor, hold(samples, pairer, teacher, None, "fp32"), "fp32")
    for index, record in enumerate(samples):
        tokens = int(measured.tokens[index])
        ids = pairer.pair(record).labels
        greedy = generate_answers(student, processor, [questions[index]], [[]], tokens)[0]
        wanted = processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        ends = len(processor.tokenizer(greedy, add_special_tokens=False).input_ids) < tokens
        assert bool(measured.right[index]) == (greedy.strip() == wanted and ends)


def test_one_wrong_token_makes_an_answer_wrong() -> None:
    """Hidden states that are one token each, under a head that says it."""
    said = torch.tensor([3, 1, 4, 1, 5, 9])
    hidden = 10 * torch.eye(12)[said]
    labels = torch.tensor([3, 1, 4, 2, 5, 9])
    rows = torch.cat(list(_figures(hidden, torch.eye(12)[labels], (torch.eye(12), torch.eye(12)), labels)))
    measured = _by_sample(rows, torch.tensor([2, 2, 2]))
    assert measured.right.tolist() == [True, False, True]
    assert measured.agreed.tolist() == [2, 1, 2]
    assert measured.figures()["exact"] == pytest.approx(2 / 3)


def test_figures_are_those_of_the_logits(parts) -> None:
    student, processor, teacher = parts
    samples = records(["abc", "d", "efghij"])
    pairer = Pairer(processor, teacher.processor, 64)
    measured = measure(student, processor, hold(samples, pairer, teacher, None, "fp32"), "fp32")
    sums = {name: [] for name in ("agreed", "cross_entropy", "kl", "reverse_kl", "entropy")}
    for record in samples:
        pair = pairer.pair(record)
        ids = torch.tensor([pair.student.ids])
        rows = pair.student.rows
        with torch.no_grad():
            q = student.language_model(ids).logits[0, rows].double().log_softmax(-1)
            p = teacher.model.language_model(ids).logits[0, rows].double().log_softmax(-1)
        labels = torch.tensor(pair.labels)
        sums["agreed"].append(q.argmax(-1).eq(p.argmax(-1)).sum())
        sums["cross_entropy"].append(torch.nn.functional.nll_loss(q, labels, reduction="sum"))
        sums["kl"].append(torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum"))
        sums["reverse_kl"].append(torch.nn.functional.kl_div(p, q, log_target=True, reduction="sum"))
        sums["entropy"].append(-(q.exp() * q).sum())
    for name, values in sums.items():
        expected = torch.stack([value.double() for value in values])
        torch.testing.assert_close(getattr(measured, name).double(), expected, rtol=1e-4, atol=1e-4)
    tokens = float(measured.tokens.sum())
    assert measured.figures()["kl"] == pytest.approx(float(torch.stack(sums["kl"]).sum()) / tokens, rel=1e-4)


def test_a_model_agrees_with_itself(parts) -> None:
    _, processor, teacher = parts
    held = hold(records(["abc", "hello"]), Pairer(processor, teacher.processor, 64), teacher, None, "fp32")
    figures = measure(teacher.model, processor, held, "fp32").figures()
    assert figures["agreement"] == 1.0
    assert figures["kl"] == pytest.approx(0.0, abs=1e-6)


def test_what_the_teacher_said_before_is_used_again(parts) -> None:
    student, processor, teacher = parts
    samples, pairer = records(["abc", "hello"]), Pairer(processor, teacher.processor, 64)
    first = hold(samples, pairer, teacher, None, "fp32")
    again = hold(samples, pairer, teacher, None, "fp32", first.states)
    assert again.states is first.states
    assert measure(student, processor, again, "fp32").figures() == measure(student, processor, first, "fp32").figures()
