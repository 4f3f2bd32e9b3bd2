"""Students of taid-vlm that were not exported: opened by its training side, and asked as they are."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.answer_logits import at_the_left, rows_before, rows_of_model
from taid_vlm_eval.models.greedy import only_greedy
from taid_vlm_eval.models.identity import folder_fingerprint
from taid_vlm_eval.models.likelihood import log_likelihoods, plain_prompts
from taid_vlm_eval.models.padding import left_padded, masked
from taid_vlm_eval.models.pictures import CACHE_BYTES, Picture, PictureCache
from taid_vlm_eval.models.protocol import Likelihood, Request
from taid_vlm_eval.models.said import as_said
from taid_vlm_eval.models.shared_prefix import Batch, Sharing, continue_whole
from taid_vlm_eval.models.stopping import stopping
from taid_vlm_eval.models.student_reading import Rendered, StudentReader


class StudentModel:
    """A loaded student, from :func:`open_student` or handed over alive by a training loop.

    Args:
        student: what ``taid_vlm.models.load_student`` returns. Its weights may not change while this object is in use.
        name: shown in results.
        identity: text that changes whenever the weights do ("run-7 step 1200", a fingerprint). Without one, a run with this
            object is never resumed by another object, since nobody could tell whether the weights are the same.
        reuse_images: encode each image once for all requests with its key, and read it once for all questions in a batch. Without, each
            request is read as a whole; the answers are the same but for rounding.
        cache_bytes: of memory for images that were encoded.
    """

    def __init__(
        self,
        student: Any,
        name: str,
        identity: str | None = None,
        reuse_images: bool = True,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.name = name
        self._student = student
        self._identity = identity or f"unknown-{uuid.uuid4().hex}"
        self._reuse = reuse_images
        self._cache, self._sharing = PictureCache(cache_bytes), Sharing()
        self._reader = StudentReader(student.processor, self._cache if reuse_images else None)

    def describe(self) -> dict[str, str | int]:
        own = {str(key): _plain(value) for key, value in self._student.describe().items()}
        return own | {
            "adapter": "student",
            "name": self.name,
            "parameters": int(self._student.parameters_total),
            "identity": self._identity,
        }

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        return self.answer(self.prepare(requests), max_new_tokens)

    def prepare(self, requests: Sequence[Request]) -> Rendered:
        """See :meth:`Preparing.prepare`."""
        return self._reader.read(requests)

    @torch.no_grad()
    def answer(self, prepared: Rendered, max_new_tokens: int) -> list[str]:
        """See :meth:`Preparing.answer`."""
        processor = self._student.processor
        self._encode_all(prepared)

        @contextmanager
        def read(rows: Sequence[int], ends: Sequence[int]) -> Iterator[dict[str, Any]]:
            ids = [prepared.ids[row][: ends[row]] for row in rows]
            yield self._embedded(ids, [one for row in rows for one in prepared.pictures[row]])

        end = processor.end_of_turn_id  # some families end a text, not a turn, with the tokenizer's EOS
        ending = stopping(processor.tokenizer, prepared.requests)
        batch = Batch(prepared.ids, prepared.pictures, read, processor.image_token_id, end, ending)
        continue_ = self._sharing.continue_shared if self._reuse else continue_whole
        with only_greedy(self._student.student.language_model, [end], end) as language_model:
            new_BT = continue_(language_model, batch, max_new_tokens)
        texts = processor.tokenizer.batch_decode(new_BT, skip_special_tokens=True)
        return list(map(as_said, prepared.requests, texts))

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """See :meth:`Measuring.picture_tokens`."""
        return self._reader.picture_tokens(width, height, max_tiles)

    @property
    def tokenizer(self) -> Any:
        """See :class:`AnswerRows`."""
        return self._student.processor.tokenizer

    @property
    def chat_template(self) -> str | None:
        """See :class:`AnswerRows`."""
        return self._student.processor.template

    @property
    def longest(self) -> int | None:
        """See :class:`AnswerRows`."""
        return getattr(self._student.student.language_model.config, "max_position_embeddings", None)

    @torch.no_grad()
    def answer_rows(self, requests: Sequence[Request], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """See :meth:`AnswerRows.answer_rows`."""
        language_model = self._student.student.language_model
        in_template = self.prepare([request for request in requests if not request.plain])
        self._encode_all(in_template)
        rendered = zip(in_template.ids, in_template.pictures, strict=True)
        rows, lengths = [], []
        pictures: list[Picture] = []
        for request, answer in zip(requests, answers, strict=True):
            none: tuple[Picture, ...] = ()
            ids, shown = (
                (plain_prompts(self.tokenizer, [request], [answer], self.longest)[0], none)
                if request.plain
                else next(rendered)
            )
            rows.append([*ids, *answer[:-1]])
            lengths.append(len(ids))
            pictures += shown
        inputs = at_the_left(self._embedded(rows, pictures))
        rows_R = rows_before(lengths, answers, inputs["attention_mask"].shape[1])
        logits_RV = rows_of_model(language_model, inputs, rows_R.to(inputs["attention_mask"].device))
        return list(logits_RV.split([len(one) for one in answers]))

    def log_likelihoods(
        self, requests: Sequence[Request], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """See :meth:`Scoring.log_likelihoods`."""
        return log_likelihoods(self, requests, continuations)

    def _encode_all(self, prepared: Rendered) -> None:
        """Pictures that are read anew are left to the forward pass."""
        if not self._reuse:
            return
        student = self._student.student
        for picture in dict.fromkeys(one for row in prepared.pictures for one in row):
            if picture.pixels is not None:
                pixels = picture.pixels["pixel_values"].to(student.head.weight.device)
                picture.encoded(student.vision_encoder(pixels).cpu())
                self._cache.weigh(picture)

    def _embedded(self, ids: list[list[int]], pictures: Sequence[Picture]) -> dict[str, Any]:
        """Arguments of the language model for rows padded on the left; pictures are those of all rows, encoded or not."""
        from taid_vlm.models.student import ModelInputs

        student = self._student.student
        read = masked(left_padded(ids), self._student.processor.end_of_turn_id)
        nothing = torch.zeros(0, dtype=torch.long)  # no row is supervised
        inputs = ModelInputs(read["input_ids"], read["attention_mask"], rows=nothing)
        if pictures and pictures[0].pixels is not None:
            pixels = [one.pixels["pixel_values"] for one in pictures if one.pixels is not None]
            inputs = replace(inputs, pixel_values=torch.cat(pixels), tiles=tuple(map(len, pixels)))
        elif pictures:
            features = [one.features for one in pictures]
            inputs = replace(inputs, image_features=torch.cat(features), tiles=tuple(map(len, features)))
        inputs = inputs.to(student.head.weight.device)
        return {"inputs_embeds": student.embed(inputs), "attention_mask": inputs.attention_mask}


def _plain(value: Any) -> str | int:
    return value if isinstance(value, str | int) else str(value)


def open_student(
    path: str,
    device: str | None = None,
    dtype: str | None = None,
    reuse_images: bool = True,
    trust_remote_code: bool = False,
) -> StudentModel:
    """Load the student saved in the folder ``path``, in the precision it loads with by itself.

    Raises:
        UserError: taid-vlm's training side is not installed, the folder does not load, unknown device, or a precision was asked for.
    """
    if dtype is not None:
        raise UserError(f"dtype {dtype!r} was asked for, but a student runs in the precision it loads in; leave it out")
    try:
        from taid_vlm.models import load_student
        from taid_vlm.models.fingerprint import fingerprint
    except ImportError as error:
        raise UserError(f"{path} is a student of taid-vlm, but taid_vlm.models does not import: {error}") from error
    from taid_vlm_eval.models.device import choose_device

    place = choose_device(device)
    folder = Path(path).expanduser()
    loaded = load_student(folder, trust_remote_code=trust_remote_code)
    # The folder alone does not tell: a student saved in its trained parts is completed from a base that lies elsewhere.
    identity = f"{folder_fingerprint(folder)[:16]} {fingerprint(loaded.student, loaded.processor)[:16]}"
    loaded.student.to(place)
    return StudentModel(loaded, folder.resolve().name, identity, reuse_images)


def live_student(loaded: Any) -> StudentModel:
    """What ``taid_vlm.load_student`` returns, as a model to ask where it is; it is known by its weights as they are now."""
    from taid_vlm.models.fingerprint import fingerprint

    name = Path(loaded.path).name or "student"
    return StudentModel(loaded, name, fingerprint(loaded.student, loaded.processor)[:32])
