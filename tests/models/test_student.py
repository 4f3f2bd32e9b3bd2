"""Pictures go to their placeholders and nowhere else, and padding changes nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.models import Student, build_student
from taid_vlm.models.generate import generate_answers
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import ImagesSpec, StudentSpec
from taid_vlm.models.student import ModelInputs, count_parameters
from tests.tiny.language_model import save_chatty_llama, tiny_llama

Parts = tuple[Student, Processor]
PER_TILE = (
    r"3 image placeholders in the text, but 1 pictures of one tile each give 4 visual tokens: for a tile of 64 x 64 pixels the "
    r"encoder has 4 tokens \(grid 2 x 2\) and the projector makes 4 of them"
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    language_model = save_chatty_llama(tmp_path_factory.mktemp("chatty"))
    content = {
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model)},
        "image_token": "<empty_output>",
    }
    student, processor = build_student(StudentSpec.model_validate(content))
    with torch.no_grad():  # random features are nearly the same for all pictures
        student.projector.linear_2.weight.mul_(100)  # type: ignore[union-attr]
    return student.eval(), processor


def inputs(ids: list[list[int]], **pictures: Any) -> ModelInputs:
    tokens = torch.tensor(ids)
    return ModelInputs(tokens, torch.ones_like(tokens), torch.arange(tokens.numel()), **pictures)


def test_features_land_on_their_placeholders_in_order(parts: Parts) -> None:
    student, processor = parts
    place = processor.image_token_id or 0
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert student.vision_encoder is not None
    assert student.projector is not None
    batch = inputs([[7, *[place] * 4, 8, 9], [*[place] * 4, 7, 8, 9]], pixel_values=pixels)
    embedded = student.embed(batch)
    visual = student.projector(student.vision_encoder(pixels))
    torch.testing.assert_close(embedded[0, 1:5], visual[0])
    torch.testing.assert_close(embedded[1, :4], visual[1])
    words: Any = student.language_model.get_input_embeddings()  # type: ignore[operator]
    assert torch.equal(embedded[0, 5:], words(torch.tensor([8, 9])))
    stored = inputs(batch.input_ids.tolist(), image_features=student.vision_encoder(pixels))
    assert torch.equal(student.embed(stored), embedded)


def test_placeholders_and_pictures_must_agree(parts: Parts) -> None:
    student, processor = parts
    place = processor.image_token_id or 0
    with pytest.raises(UserError, match=PER_TILE):
        student.embed(inputs([[place] * 3], pixel_values=torch.zeros(1, 3, 64, 64)))
    with pytest.raises(UserError, match=r"12 image placeholders.*2 pictures in 4 tiles give 16 visual tokens"):
        student.embed(inputs([[place] * 12], pixel_values=torch.zeros(4, 3, 64, 64), tiles=(3, 1)))


@pytest.mark.parametrize("pictures", [{}, {"pixel_values": torch.zeros(0, 3, 64, 64)}])
def test_placeholders_without_any_picture_are_not_read_as_words(parts: Parts, pictures: Any) -> None:
    student, processor = parts
    with pytest.raises(UserError, match="4 image placeholders in the text, but no pictures"):
        student.embed(inputs([[7, *[processor.image_token_id or 0] * 4]], **pictures))


def test_a_batch_without_pictures_still_reaches_the_projector(parts: Parts) -> None:
    student, _ = parts
    student.zero_grad()
    student.embed(inputs([[7, 8]])).sum().backward()
    assert student.projector is not None
    assert all(p.grad is not None and not p.grad.any() for p in student.projector.parameters())


def test_padding_does_not_change_hidden_states(parts: Parts) -> None:
    student, _ = parts
    alone = student.hidden(inputs([[7, 8, 9]]))
    tokens = torch.tensor([[7, 8, 9, 2, 2], [10, 11, 12, 13, 14]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    padded = student.hidden(ModelInputs(tokens, mask, torch.tensor([0, 1, 2])))
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_answers_do_not_depend_on_what_is_answered_beside(parts: Parts) -> None:
    student, processor = parts
    red, blue = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (90, 30), "blue")
    look = [{"type": "image"}, {"type": "text", "text": "what is to be seen here, in one word?"}]
    chats = [[{"role": "user", "content": c}] for c in (look, "hi", look)]
    pictures = [[red], [], [blue]]
    together = generate_answers(student, processor, chats, pictures, 8)
    apart = [generate_answers(student, processor, [c], [p], 8)[0] for c, p in zip(chats, pictures, strict=True)]
    assert together == apart
    assert any(together)  # one that answers nothing may be by chance (random weights), all three may not
    with pytest.raises(UserError, match="asks for 1 pictures and has 2"):
        generate_answers(student, processor, [chats[0]], [[red, blue]], 8)


def test_frozen_parts_stay_in_evaluation_mode(parts: Parts) -> None:
    student, _ = parts
    student.train()
    assert student.vision_encoder is not None
    assert not any(module.training for module in student.vision_encoder.modules())
    assert student.language_model.training
    student.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_counted_once(tied: bool) -> None:
    model = tiny_llama(tied=tied)
    assert count_parameters(model) == model.num_parameters()


def test_answers_see_every_tile_of_a_picture(parts: Parts) -> None:
    student, processor = parts
    assert processor.images is not None
    spec = ImagesSpec(tiling="dynamic", style="internvl")
    cut = Processor(processor.tokenizer, processor.template, replace(processor.images, spec=spec))
    wide = Image.new("RGB", (200, 100), "red")
    other = wide.copy()
    other.paste("blue", (150, 0, 200, 100))
    look = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "image"}]}]
    chats, pictures = [look, look, [{"role": "user", "content": "hi"}]], [[wide, other], [other, wide], []]
    together = generate_answers(student, cut, chats, pictures, 8)
    assert together == [generate_answers(student, cut, [c], [p], 8)[0] for c, p in zip(chats, pictures, strict=True)]
    sizes = [picture.size for picture in pictures[0]]
    embedded = [
        student.embed(inputs([cut.render(look, sizes=sizes).ids], pixel_values=cut.pixel_values(p)))
        for p in pictures[:2]
    ]
    assert embedded[0].shape == embedded[1].shape
    assert not torch.equal(embedded[0], embedded[1])
    assert sum(i == cut.image_token_id for i in cut.render(look, sizes=sizes).ids) == 2 * 3 * 4
