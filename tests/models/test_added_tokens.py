"""Tokens that a recipe adds: in spare rows while there are some."""

from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.added_tokens import add_tokens
from taid_vlm.models.assemble import build_student
from taid_vlm.models.saved import load_student, save_student
from taid_vlm.models.specs import StudentSpec
from tests.tiny.language_model import save_tiny_language_model, tiny_language_model, tiny_tokenizer


def test_spare_rows_come_first() -> None:
    model, tokenizer = tiny_language_model("llama"), tiny_tokenizer()
    before = model.get_input_embeddings().weight.clone()
    add_tokens(model, tokenizer, ["<img>", "</img>"])
    assert tokenizer.encode("a<img>")[1:] == [260]
    assert torch.equal(model.get_input_embeddings().weight, before)


@pytest.mark.parametrize("tied", [True, False])
def test_beyond_them_embedding_and_head_grow_by_their_mean(tied: bool) -> None:
    model, tokenizer = tiny_language_model("qwen2", vocabulary=261, tied=tied), tiny_tokenizer()
    before = model.get_input_embeddings().weight.clone()
    add_tokens(model, tokenizer, ["<img>", "</img>", "<img>"])
    weight, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert len(tokenizer) == len(weight) == len(head) == model.config.vocab_size == 262
    assert torch.equal(weight[:261], before)
    torch.testing.assert_close(weight[261], before[:260].mean(0))
    assert (weight is head) == tied


def test_a_token_that_is_there_is_not_added_again() -> None:
    model, tokenizer = tiny_language_model("llama"), tiny_tokenizer()
    add_tokens(model, tokenizer, ["<empty_output>"])
    assert len(tokenizer) == 260


def test_space_is_no_token() -> None:
    with pytest.raises(UserError, match="expected a text"):
        add_tokens(tiny_language_model("llama"), tiny_tokenizer(), [" "])


@pytest.mark.parametrize("weights", ["full", "trained"])
def test_a_saved_student_keeps_them(tmp_path: Path, weights: str) -> None:
    source = save_tiny_language_model(tmp_path / "lm", "llama", vocabulary=261)
    spec = StudentSpec.model_validate({"language_model": {"source": str(source)}, "added_tokens": ["<img>", "</img>"]})
    student, processor = build_student(spec)
    save_student(student, processor, spec, tmp_path / "student", weights=weights)  # type: ignore[arg-type]
    loaded = load_student(tmp_path / "student")
    assert loaded.processor.tokenizer.encode("</img>") == [261]
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, loaded.student.state_dict()[name]), name
