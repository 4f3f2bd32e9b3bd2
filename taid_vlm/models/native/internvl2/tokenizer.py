"""The tokenizer of an original checkpoint as a fast one with the same ids."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.models.image_text import INTERNVL
from taid_vlm.models.native.internvl2.sentencepiece import compare, fast_tokenizer, read_model

CONTEXT = "<IMG_CONTEXT>"
OWN_CLASSES = ("InternLM2Tokenizer", "InternLM2TokenizerFast")
FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    "tokenizer_config.json",
)
SPARE = "<quad>"  # of boxes, which no prompt holds; the stock processor wants a token of videos


def converted_tokenizer(folder: Path, rows: int) -> Any:
    """A fast tokenizer with the names by which the stock processor asks it.

    Args:
        rows: of the embedding.

    Raises:
        UserError: tokenizer files that are missing or cannot be converted, ids that differ from those the checkpoint says, or that the
            embedding has no rows for.
    """
    about = _json(folder / "tokenizer_config.json")
    stored = added_tokens(folder, about)
    if about.get("tokenizer_class") in OWN_CLASSES:
        tokenizer = _from_sentencepiece(folder, about, stored)
    else:
        tokenizer = _from_stock(folder, about)
    for at, token in stored.items():
        found = tokenizer.convert_tokens_to_ids(token.content)
        if found != at:
            raise UserError(
                f"the token {token.content!r} has id {at} in the checkpoint and {found} in the converted tokenizer"
            )
    if len(tokenizer) > rows:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows")
    for token in (*INTERNVL, CONTEXT):
        if len(tokenizer.encode(token, add_special_tokens=False)) != 1:
            raise UserError(
                f"{token} is not one token of the checkpoint's tokenizer, so pictures have no place in its text"
            )
    spare = SPARE if SPARE in tokenizer.get_vocab() else tokenizer.eos_token
    named = {
        "start_image_token": INTERNVL[0],
        "end_image_token": INTERNVL[1],
        "context_image_token": CONTEXT,
        "video_token": spare,
    }
    tokenizer._set_model_specific_special_tokens(special_tokens=named)
    return tokenizer


def added_tokens(folder: Path, about: Mapping[str, Any]) -> dict[int, Any]:
    """Added tokens by id, from ``added_tokens_decoder``, else from ``added_tokens.json``."""
    from tokenizers import AddedToken

    found = {}
    for at, token in (about.get("added_tokens_decoder") or {}).items():
        flags = {key: token.get(key, False) for key in ("lstrip", "rstrip", "normalized", "single_word", "special")}
        found[int(at)] = AddedToken(token["content"], **flags)
    if not found and (folder / "added_tokens.json").is_file():
        for content, at in _json(folder / "added_tokens.json").items():
            found[int(at)] = AddedToken(content, normalized=False, special=True)
    return found


def _from_sentencepiece(folder: Path, about: Mapping[str, Any], added: Mapping[int, Any]) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.model"
    if not file.is_file():
        raise UserError(f"{folder} has a {about['tokenizer_class']} but no tokenizer.model, from which it is converted")
    proto = read_model(file)
    fast = fast_tokenizer(proto, added)
    compare(fast, proto, file, added)
    named = {name: _content(about.get(name, default)) for name, default in _NAMED.items()}
    if about.get("add_bos_token", True):
        opening = (named["bos_token"], fast.token_to_id(named["bos_token"]))
        single = f"{opening[0]} $A"
        fast.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} {opening[0]} $B", special_tokens=[opening]
        )
    if about.get("add_eos_token"):
        raise UserError(
            "tokenizer_config.json asks for an end token behind every text (add_eos_token), which no prompt of InternVL2 has"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        **named,
        clean_up_tokenization_spaces=False,
        model_max_length=about.get("model_max_length") or 8192,
        padding_side="left",
    )


_NAMED = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


def _from_stock(folder: Path, about: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    present = [name for name in FILES if (folder / name).is_file()]
    if not present:
        raise UserError(f"{folder} holds no tokenizer: expected one of {', '.join(FILES)}")
    # Beside the config of remote code transformers would ask to run it, so the files are read elsewhere.
    with tempfile.TemporaryDirectory() as elsewhere:
        for name in present:
            shutil.copy(folder / name, elsewhere)
        kept = {key: value for key, value in about.items() if key not in ("auto_map", "chat_template")}
        (Path(elsewhere) / "tokenizer_config.json").write_text(json.dumps(kept))
        try:
            return AutoTokenizer.from_pretrained(elsewhere, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise UserError(
                f"the tokenizer of {folder} ({about.get('tokenizer_class', 'of no named class')}) cannot be read: {str(error).splitlines()[0]}"
            ) from error


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; the checkpoint is not complete") from error
