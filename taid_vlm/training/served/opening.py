"""A served teacher is tried before anything is trained: its name, how much it tells, and that it means the same ids."""

from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.data import Record
from taid_vlm.losses import LossSpec
from taid_vlm.losses.topk import check_tail
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.served.client import Client
from taid_vlm.training.served.teacher import ServedTeacher

PROBE = "The quick brown fox jumps over the lazy dog."


def open_served(recipe: Recipe, teacher: Teacher | None, objective: LossSpec) -> ServedTeacher | None:
    """The server's model, after one question to it; None where the teacher is not on a server.

    Args:
        teacher: without weights; its tokenizer and the size of its head are looked at.

    Raises:
        UserError: the server, its model, ``top_k`` or the tail rule cannot work, or something needs the weights here.
    """
    spec = recipe.teacher
    if teacher is None or spec is None or spec.placement != "served":
        return None
    assert spec.url is not None
    assert spec.top_k is not None
    assert spec.tail is not None
    check_tail(spec.tail, objective)
    if recipe.data.answers == "teacher":
        raise UserError(
            "data.answers: teacher needs the teacher's weights here: set another teacher.placement, or have the server write the "
            "answers into a data set first"
        )
    if spec.cache.enabled:
        raise UserError(
            "teacher.cache keeps hidden states, which a served teacher does not give: set teacher.cache.enabled: false, or "
            "another teacher.placement"
        )
    vocabulary = int(teacher.head_weight.shape[0])
    if spec.top_k > vocabulary:
        raise UserError(
            f"teacher.top_k is {spec.top_k}, expected at most {vocabulary}, the tokens of the teacher's head"
        )
    client = Client(spec.url)
    served = ServedTeacher(client, _model(client, spec.served_model), spec.top_k, spec.tail)
    _probe(served, teacher)
    return served


def refuse_served_pictures(recipe: Recipe, teacher: Teacher | None, records: list[Record]) -> None:
    """Refuse a served teacher that would have to look at pictures.

    A server takes pictures in conversations only, which it renders by its own template and processor: what it computes
    cannot be held to our token ids row by row before it is too late.

    Raises:
        UserError: there is a record with pictures.
    """
    served = teacher is not None and recipe.teacher is not None and recipe.teacher.placement == "served"
    if served and any(record.images for record in records):
        raise UserError(
            "teacher.placement: served is for text: a server takes no pictures beside token ids, and the records have "
            "pictures; set teacher.cache.enabled: true with another placement (the teacher runs once over the data), or "
            "teacher.placement: offload"
        )


def _model(client: Client, wanted: str | None) -> str:
    """The name of the model that is asked."""
    answer = client.get("/v1/models")
    try:
        names = [str(model["id"]) for model in answer["data"]]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{client.url}/v1/models does not list models; teacher.url must be that of a vLLM server"
        ) from error
    if wanted is None and len(names) != 1:
        raise UserError(f"{client.url} serves {', '.join(names) or 'nothing'}: set teacher.served_model to one of them")
    if wanted is not None and wanted not in names:
        raise UserError(f"{client.url} does not serve {wanted!r} (teacher.served_model): {did_you_mean(wanted, names)}")
    return names[0] if wanted is None else wanted


def _probe(served: ServedTeacher, teacher: Teacher) -> None:
    """A sentence, asked and compared: the server's ids must mean the strings that they mean to us."""
    tokenizer: Any = teacher.processor.tokenizer
    ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    answer = served.completion(ids)
    served.known(answer, ids, list(range(len(ids) - 1)))
    for token, entry in list(zip(ids, answer["choices"][0]["prompt_logprobs"], strict=True))[1:]:
        theirs, ours = entry[str(token)].get("decoded_token"), tokenizer.decode([token])
        # Whether a piece has its space is a matter of the server's version.
        if theirs is not None and theirs.strip() != ours.strip():
            raise UserError(
                f"token {token} of the served model {served.model!r} is {theirs!r}, in the tokenizer of teacher.checkpoint or "
                f"teacher.language_model it is {ours!r}: they must be those of the model that is served"
            )
