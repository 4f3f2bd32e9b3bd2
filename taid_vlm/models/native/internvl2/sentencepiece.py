"""A SentencePiece model as a fast tokenizer, id by id.

InternLM2's own class passes text between added tokens to SentencePiece. Here the same is said in the parts of the tokenizers library: what
the model does to the text before it (``normalizer_spec``), its merges in the order of its scores, bytes for what it does not know.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError

BPE_MODEL = 2
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SPACE = "▁"
PROBES = (
    "What is this?",
    "  two  spaces, a\ttab\n\nand lines \n",
    "naïve café, 12345.67 + x_y == Z",
    "你是一个有用无害的人工智能助手。",
    "😀 \u00a0 \u200b <p>",
    "",
    " ",
)


def read_model(file: Path) -> Any:
    """The protocol buffer of a ``tokenizer.model``.

    Raises:
        UserError: protobuf is not installed, no such file, or another kind of model.
    """
    try:
        from transformers.convert_slow_tokenizer import import_protobuf

        proto = import_protobuf().ModelProto()
    except ImportError as error:
        raise UserError(
            "a SentencePiece tokenizer is converted with protobuf, an optional package: pip install protobuf"
        ) from error
    try:
        proto.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError has moved between releases
        raise UserError(f"{file} is no SentencePiece model: {error}") from error
    if proto.trainer_spec.model_type != BPE_MODEL or proto.trainer_spec.treat_whitespace_as_suffix:
        raise UserError(f"{file} is no byte-pair model of SentencePiece; only those can be converted")
    return proto


def fast_tokenizer(proto: Any, added: Mapping[int, Any]) -> Any:
    """A ``tokenizers.Tokenizer`` that encodes as the model does between added tokens.

    Args:
        added: added tokens (``AddedToken``) by id; those within the model's pieces take the place of one.

    Raises:
        UserError: ids of added tokens that leave a gap.
    """
    from tokenizers import Tokenizer, decoders, models

    pieces = [(added[at].content if at in added else piece.piece) for at, piece in enumerate(proto.pieces)]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    own = [
        piece
        for at, (piece, about) in enumerate(zip(pieces, proto.pieces, strict=True))
        if about.type == USER_DEFINED and at not in added
    ]
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            merges(pieces, proto),
            unk_token=pieces[proto.trainer_spec.unk_id],
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
            ignore_merges=bool(own),  # a user's own piece is one token, and no merge makes it
        )
    )
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    if own:
        from tokenizers import Regex, pre_tokenizers

        pattern = "|".join(re.escape(piece) for piece in sorted(own, key=len, reverse=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    _add(tokenizer, added, len(pieces))
    return tokenizer


def merges(pieces: Sequence[str], proto: Any) -> list[tuple[str, str]]:
    """Pairs of pieces that make a piece, those of the best score first; equal scores in the order of ids."""
    normal = {
        pieces[at]: (-about.score, at)
        for at, about in enumerate(proto.pieces)
        if about.type == NORMAL and pieces[at] == about.piece
    }
    found = []
    for piece, rank in normal.items():
        for cut in range(1, len(piece)):
            if piece[:cut] in normal and piece[cut:] in normal:
                found.append((rank, piece[:cut], piece[cut:]))
    return [(left, right) for _, left, right in sorted(found)]


def _normalizer(spec: Any) -> Any:
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _add(tokenizer: Any, added: Mapping[int, Any], pieces: int) -> None:
    expected = pieces
    for at in sorted(added):
        if at >= pieces:
            if at != expected:
                raise UserError(
                    f"the added token {added[at].content!r} has id {at}, expected {expected}: the ids leave a gap"
                )
            expected += 1
        if added[at].special:
            tokenizer.add_special_tokens([added[at]])
        else:
            tokenizer.add_tokens([added[at]])
        if tokenizer.token_to_id(added[at].content) != at:
            raise UserError(
                f"the added token {added[at].content!r} would get id {tokenizer.token_to_id(added[at].content)} instead of {at}: it is in the "
                f"model under another id"
            )


def compare(tokenizer: Any, proto: Any, file: Path, added: Mapping[int, Any]) -> None:
    """Where SentencePiece is installed, try some texts with both.

    Raises:
        UserError: they differ.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        return
    original = SentencePieceProcessor(model_file=str(file))
    for text in PROBES:
        expected, found = original.encode(text), tokenizer.encode(text, add_special_tokens=False).ids
        if found != expected:
            raise UserError(
                f"the converted tokenizer reads {text!r} as {found}, {file.name} as {expected}: this model does to text what the conversion "
                f"does not know"
            )
