"""A model as lm-evaluation-harness asks it: texts outside any template, cut into tokens by that harness's rules.

Its own rules, so that its figures are those of its model ``hf``: white space at the end of a context counts to the continuation; an
empty context is the token that opens texts, or else ends them; what is too long loses its beginning; a text that begins with the opening
token gets no second one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from taid_vlm.common.errors import UserError
from taid_vlm_eval.bridges.asking import answers, likelihoods
from taid_vlm_eval.bridges.wanted import Wanted, wanted
from taid_vlm_eval.models.likelihood import AnswerRows
from taid_vlm_eval.models.protocol import Model, Request

USUAL_TOKENS = 256  # of an answer where the task names no limit
USUAL_LENGTH = 2048  # of windows, for models that read any number of tokens


class Texts:
    """Args:
        model: a checkpoint that runs here, from ``open_model``.
        batch_size: texts read together.

    Raises:
        UserError: the model has no tokens to show, as those behind a server have not.
    """

    def __init__(self, model: Model, batch_size: int) -> None:
        if not isinstance(model, AnswerRows):
            raise UserError(
                f"{model.name} shows neither its tokens nor its logits, as lm-evaluation-harness needs; evaluate a checkpoint here, "
                f"or ask a server by that harness's own model local-chat-completions"
            )
        if batch_size < 1:
            raise UserError(f"batch size is {batch_size}, expected 1 or more")
        self._model: Any = model
        self._tokenizer, self._batch_size = model.tokenizer, batch_size
        opening = self._tokenizer.bos_token_id
        self._opening: int = opening if opening is not None else self._tokenizer.eos_token_id

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Tokens of a text; ``special`` says whether with those that the tokenizer puts around texts, by default as it does itself."""
        if special is None and text.startswith(self._tokenizer.decode(self._opening)):
            special = False  # a chat template has written it
        more = {} if special is None else {"add_special_tokens": special}
        return list(self._tokenizer.encode(text, **more))

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """For each context and continuation the log-likelihood, and whether greedy decoding writes the continuation."""
        return self._likelihoods([self._cut(*pair) for pair in pairs], "log-likelihoods")

    def whole_likelihoods(self, texts: Sequence[str]) -> list[float]:
        """Log-likelihoods of whole texts: each token once, in windows as long as the model reads, the last with as much context as fits."""
        windows = [(place, window) for place, text in enumerate(texts) for window in self._windows(self.encode(text))]
        found = [0.0] * len(texts)
        values = self._likelihoods([window for _, window in windows], "log-likelihoods of texts")
        for (place, _), (value, _) in zip(windows, values, strict=True):
            found[place] += value
        return found

    def generate(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Greedy continuations of contexts, each up to the first text in ``until`` of its arguments."""
        groups: dict[Wanted, list[int]] = {}
        for place, (_, arguments) in enumerate(asked):
            groups.setdefault(wanted(arguments, USUAL_TOKENS), []).append(place)
        found = [""] * len(asked)
        for one, places in groups.items():
            rows = {place: self._fitting(asked[place][0], one) for place in places}
            order = sorted(places, key=lambda place: -len(rows[place]))
            requests = [Request("", plain=True, ids=tuple(rows[place]), stops=one.stops) for place in order]
            texts = answers(self._model, len(order), requests.__getitem__, one, self._batch_size, "answers")
            found = [dict(zip(order, texts, strict=True)).get(place, text) for place, text in enumerate(found)]
        return found

    def chat(self, messages: Sequence[Mapping[str, str]], open_answer: bool) -> str:
        """Messages as the model's own chat template renders them.

        Args:
            open_answer: end with the opening of an answer; otherwise the last message goes on.

        Raises:
            UserError: the model has no chat template.
        """
        template = self._model.chat_template
        if not template:
            raise UserError(f"{self._model.name} has no chat template; leave out --apply-chat-template")

        def render(said: list[dict[str, Any]]) -> str:
            return str(
                self._tokenizer.apply_chat_template(
                    said,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=open_answer,
                    continue_final_message=not open_answer,
                )
            )

        plain = [dict(message) for message in messages]
        # Templates of models that see may want a list of parts as content.
        parts = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in plain]
        try:
            text = render(plain)
            if all(one["content"].strip() in text for one in plain):
                return text
        except (TemplateError, TypeError):
            pass
        return render(parts)

    @property
    def chat_template(self) -> str:
        """The Jinja text, "" where the model has none."""
        return self._model.chat_template or ""

    def _likelihoods(self, rows: Sequence[tuple[list[int], list[int]]], what: str) -> list[tuple[float, bool]]:
        requests = [Request("", plain=True, ids=tuple(context)) for context, _ in rows]
        return likelihoods(self._model, requests, [ids for _, ids in rows], self._batch_size, what)

    def _cut(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        kept = context.rstrip()
        if not context:
            ids = self.encode(continuation, special=False)
            return ([self._opening], ids) if ids[:1] != [self._opening] else (ids[:1], ids[1:])
        before = self.encode(kept)
        return before or [self._opening], self.encode(context + continuation)[len(before) :]

    def _windows(self, ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """What is read before, and what is predicted."""
        longest, every = self._model.longest or USUAL_LENGTH, [self._opening, *ids]
        windows = []
        for start in range(0, len(ids), longest):
            end = min(start + longest, len(ids))
            windows.append((every[max(0, end - longest) : start + 1], ids[start:end]))
        return windows

    def _fitting(self, context: str, one: Wanted) -> list[int]:
        ids, longest = self.encode(context) or [self._opening], self._model.longest
        if longest is None:
            return ids
        if longest <= one.max_new_tokens:
            raise UserError(
                f"{self._model.name} reads {longest} tokens, and the task wants answers of {one.max_new_tokens}; set a smaller "
                f"max_gen_toks by --gen-kwargs"
            )
        return ids[-(longest - one.max_new_tokens) :]
