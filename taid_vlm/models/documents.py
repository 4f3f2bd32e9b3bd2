"""Several documents in one row, each of which sees itself alone.

Position ids that begin again say where a document begins, to the rotary or learned positions and to transformers' masks
alike: with no attention mask given, ``eager``, ``sdpa`` and ``flex_attention`` get a block for each document (within it
causal, and as wide as a sliding window allows), and flash attention the lengths of the documents.
"""

from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError

# They take a mask for each row; whatever else there is reads documents off the positions of one row only.
MASKED = ("eager", "sdpa", "flex_attention")
# What a layer may be, as configs have it in ``layer_types``: others carry a state or a window of raw tokens along the row.
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")


def states_of_documents(language_model: Any, embeddings: Tensor, position_ids: Tensor) -> Tensor:
    """Hidden states ``[B, L, H]`` of embedded rows; ``position_ids`` ``[B, L]`` begin again with each document."""
    shape = embeddings.shape
    if language_model.config._attn_implementation not in MASKED:
        embeddings, position_ids = embeddings.flatten(0, 1).unsqueeze(0), position_ids.flatten().unsqueeze(0)
    states = language_model.base_model(
        inputs_embeds=embeddings, attention_mask=None, position_ids=position_ids, use_cache=False
    ).last_hidden_state
    return states.view(shape)


@torch.no_grad()
def check_documents(language_model: Any) -> None:
    """Refuse a language model whose documents would see each other, or whose positions do not begin again.

    Both are tried, for families differ and some take what they do not heed: two short documents in a row, once more
    with other words in the first, and the second alone. On the meta device only the config is looked at. Flash attention
    must be tried under the autocast of the run.

    Raises:
        UserError: the family cannot be packed.
    """
    config = language_model.config
    other = sorted(set(getattr(config, "layer_types", None) or ()) - set(ATTENTION))
    if other:
        raise UserError(_refusal(config.model_type, f"has layers of kind {', '.join(other)}, which no mask divides"))
    embed = language_model.get_input_embeddings()
    if embed.weight.is_meta:
        return
    first, second = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[2, 0, 3]])
    training = language_model.training
    language_model.eval()
    try:
        together, changed, alone = (
            _tried(language_model, documents) for documents in ([first, second], [first.flip(1), second], [second])
        )
    except TypeError as error:
        raise UserError(_refusal(config.model_type, "does not take position_ids")) from error
    finally:
        language_model.train(training)
    size = float(alone.abs().max())
    if float((together - changed).abs().max()) > 1e-6 * size:
        raise UserError(_refusal(config.model_type, "lets one document see the one before it"))
    exact = embed.weight.dtype == torch.float32 and not torch.is_autocast_enabled(embed.weight.device.type)
    if float((together - alone).abs().max()) > (1e-4 if exact else 5e-2) * size:
        raise UserError(_refusal(config.model_type, "does not begin its positions again with each document"))


def _tried(language_model: Any, documents: list[Tensor]) -> Tensor:
    embed = language_model.get_input_embeddings()
    ids = torch.cat(documents, dim=1).to(embed.weight.device)
    positions = torch.cat([torch.arange(document.shape[1]) for document in documents]).to(ids.device)
    states = states_of_documents(language_model, embed(ids), positions.unsqueeze(0))
    return states[:, -documents[-1].shape[1] :].float()


def _refusal(family: str, why: str) -> str:
    return f"a language model of family {family!r} cannot be packed: it {why}. Set data.batching: grouped (or padded)"
