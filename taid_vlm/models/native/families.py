"""Which stock vision-language families can teach, by the exact ``model_type`` of their config.

A family is what no config says: how a conversation becomes text, what stands in a picture's place, which tensors its forward takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry
from taid_vlm.models.native import pictures
from taid_vlm.models.native.pictures import PictureTexts


@dataclass(frozen=True)
class Family:
    """One stock family.

    Attributes:
        processor: class of its processor; another one writes other text (Pixtral is ``llava`` too).
        templates: our chat template by the ``model_type`` of its language model.
        picture_texts: what stands in place of the pictures of a conversation.
        tensors: outputs of the image processor that the forward takes.
        by_size: whether the tokens of a picture depend on its size.
        token_types: the forward's name for a tensor that is 1 at picture tokens (positions or attention depend on it); empty if none.
        image_options: what the stock processor asks of its image processor beyond its config.
        other_templates: those of checkpoints of this family that were trained with another text; told by the checkpoint's own template.
    """

    processor: str
    templates: Mapping[str, str]
    picture_texts: PictureTexts
    tensors: tuple[str, ...] = ("pixel_values",)
    by_size: bool = True
    token_types: str = ""
    image_options: Mapping[str, Any] = field(default_factory=dict)
    other_templates: tuple[str, ...] = ()

    def template_for(self, language_model: str) -> str:
        """Name of the template of a checkpoint with this language model.

        Raises:
            UserError: none is known.
        """
        if language_model not in self.templates:
            raise UserError(
                f"no chat template is known for a teacher with a language model of family {language_model!r} (known: "
                f"{', '.join(sorted(self.templates))}); name one in teacher.chat_template, or give a .jinja file"
            )
        return self.templates[language_model]


FAMILIES: Registry[Family] = Registry("family of teachers")

_GRID = ("pixel_values", "image_grid_thw")
_SPLIT = ("pixel_values", "pixel_attention_mask")
_CHATML = {"llama": "chatml", "qwen2": "chatml", "qwen3": "chatml"}

for _name, _family in {
    "internvl": Family(
        "InternVLProcessor",
        {**_CHATML, "phi3": "internvl2_phi3"},
        pictures.internvl,
        image_options={"crop_to_patches": True},
        other_templates=("internlm2", "internvl2_5"),
    ),
    "qwen2_vl": Family(
        "Qwen2VLProcessor", {"qwen2_vl_text": "qwen2_vl"}, pictures.qwen_vl, _GRID, token_types="mm_token_type_ids"
    ),
    "qwen2_5_vl": Family(
        "Qwen2_5_VLProcessor", {"qwen2_5_vl_text": "qwen2_vl"}, pictures.qwen_vl, _GRID, token_types="mm_token_type_ids"
    ),
    "qwen3_vl": Family(
        "Qwen3VLProcessor", {"qwen3_vl_text": "qwen3_vl"}, pictures.qwen_vl, _GRID, token_types="mm_token_type_ids"
    ),
    "smolvlm": Family("SmolVLMProcessor", {"llama": "smolvlm"}, pictures.smolvlm, _SPLIT),
    "idefics3": Family("Idefics3Processor", {"llama": "smolvlm"}, pictures.smolvlm, _SPLIT),
    "llava": Family(
        "LlavaProcessor", {"llama": "llava_vicuna", "qwen2": "llava_onevision"}, pictures.llava, by_size=False
    ),
    "llava_next": Family(
        "LlavaNextProcessor",
        {"llama": "llava_vicuna", "mistral": "llava_mistral"},
        pictures.llava_next,
        ("pixel_values", "image_sizes"),
    ),
    "llava_onevision": Family(
        "LlavaOnevisionProcessor",
        {"qwen2": "llava_onevision"},
        pictures.llava_onevision,
        ("pixel_values", "image_sizes", "batch_num_images"),
    ),
    "gemma3": Family(
        "Gemma3Processor", {"gemma3_text": "gemma3_vl"}, pictures.gemma3, by_size=False, token_types="token_type_ids"
    ),
}.items():
    FAMILIES.register(_name)(_family)
