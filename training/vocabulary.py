"""A tokenizer without the word pieces that hardly occur: embeddings are most of a small model."""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from deesc_model.errors import DeescError
from deesc_model.rendering import render_turn
from deesc_model.types import Turn
from training.config import Config
from training.corpus import Utterance
from training.unlabelled import load_unlabelled

TOKENIZER_FILE = "tokenizer.json"

log = logging.getLogger("training")


def vocabulary_texts(train: Sequence[Utterance], config: Config) -> list[str]:
    """Return the texts in which word pieces are counted, as the network reads them.

    Args:
        train: The training split.
        config: Says where the unlabelled texts are, which count too.

    Raises:
        DataError: A file of them cannot be read.
    """
    sources, annotations = Path(config.sources), Path(config.annotations)
    unlabelled = load_unlabelled(sources, annotations, held_out=config.held_out_source)
    return [render_turn(Turn(row.speaker, row.text)) for row in (*train, *unlabelled)]


def trim(
    encoder: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], count: int
) -> PreTrainedTokenizerBase:
    """Leave out of a network what `trim_vocabulary` leaves out of its tokenizer, where that can be.

    Args:
        encoder: Changed in place.
        tokenizer: The encoder's; one that cannot be trimmed keeps every piece, and the log says
            why.
        texts: As for `trim_vocabulary`.
        count: As for `trim_vocabulary`.

    Returns:
        The tokenizer that the encoder has from now on.
    """
    try:
        smaller, kept = trim_vocabulary(tokenizer, texts, count)
    except DeescError as reason:
        log.warning("all word pieces stay: %s", reason)
        return tokenizer
    _keep_tokens(encoder, kept)
    log.info("%d of %d word pieces are left", len(kept), len(tokenizer))
    return smaller


def _keep_tokens(encoder: nn.Module, kept: Sequence[int]) -> None:
    """Drop the embeddings of all other tokens; `kept` has for each id from now on the old one."""
    old, pad = encoder.get_input_embeddings(), encoder.config.pad_token_id
    new_pad = kept.index(pad) if pad in kept else None
    new = nn.Embedding(len(kept), old.embedding_dim, padding_idx=new_pad)
    with torch.no_grad():
        new.weight.copy_(old.weight[kept])
    new.requires_grad_(old.weight.requires_grad)
    encoder.set_input_embeddings(new)
    encoder.config.vocab_size = len(kept)
    encoder.config.pad_token_id = new_pad


def trim_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], count: int
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Keep the word pieces that occur, every single character, and the special tokens.

    A word of which a piece is gone falls into smaller ones. No word becomes unknown that was
    not: any character that is in some piece is a piece by itself, as the first of a word and as
    a later one. A text of which every piece is kept is read as before, since the longest piece
    that fits is still there.

    Args:
        tokenizer: Of WordPiece; not changed.
        texts: Texts of the kind that the model will read.
        count: How often a piece must occur in them to be kept.

    Returns:
        The smaller tokenizer, and for each of its token ids the id in the old one.

    Raises:
        DeescError: The tokenizer is not WordPiece, or has a piece that cannot be taken apart
            into single characters.
    """
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] != "WordPiece":
        raise DeescError(
            f"only WordPiece vocabularies can be trimmed, not {content['model']['type']}"
        )
    prefix = content["model"]["continuing_subword_prefix"]
    special = {token["content"] for token in content["added_tokens"]}
    special.add(content["model"]["unk_token"])
    pieces = content["model"]["vocab"].keys() - special
    whole = _plain(content)
    pieces = {piece for piece in pieces if _is_readable(piece.removeprefix(prefix), whole)}
    single = {character for piece in pieces for character in _characters(piece, prefix)}
    if lonely := sorted(single - pieces):
        raise DeescError(
            f"the vocabulary cannot be trimmed: {lonely[0]!r} is part of a piece and not a piece"
        )
    read = [encoding.tokens for encoding in whole.encode_batch(texts, add_special_tokens=False)]
    counts = Counter(token for tokens in read for token in tokens)
    frequent = {piece for piece in pieces if counts[piece] >= count}
    old = whole.get_vocab(with_added_tokens=True)
    kept = sorted(special | single | frequent, key=old.__getitem__)
    new = {token: number for number, token in enumerate(kept)}
    _renumber(content, new)
    _check_same(_plain(content), texts, read, new)
    return _with_backend(tokenizer, content), [old[token] for token in kept]


def _is_readable(body: str, tokenizer: Tokenizer) -> bool:
    """Return whether a text can be read as this: one in capitals cannot where all become small."""
    normalizer = tokenizer.normalizer
    return normalizer is None or normalizer.normalize_str(body).strip() == body


def _characters(piece: str, prefix: str) -> list[str]:
    """Return a piece's characters as pieces."""
    if piece.startswith(prefix):
        return [prefix + character for character in piece.removeprefix(prefix)]
    return [piece[0], *(prefix + character for character in piece[1:])]


def _plain(content: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer as `InputEncoder` uses it: no padding, no cut, no token by its name."""
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _renumber(content: dict[str, Any], new: dict[str, int]) -> None:
    """Give every token in a `tokenizer.json` its new id, and drop those that have none."""
    model = content["model"]
    model["vocab"] = {token: new[token] for token in model["vocab"] if token in new}
    for token in content["added_tokens"]:
        token["id"] = new[token["content"]]
    if content["padding"]:
        content["padding"]["pad_id"] = new[content["padding"]["pad_token"]]
    frame = content["post_processor"] or {}
    for name in ("cls", "sep"):  # of BertProcessing
        if name in frame:
            frame[name][1] = new[frame[name][0]]
    for token in frame.get("special_tokens", {}).values():  # of TemplateProcessing
        token["ids"] = [new[part] for part in token["tokens"]]


def _check_same(
    trimmed: Tokenizer, texts: Sequence[str], read: Sequence[list[str]], new: dict[str, int]
) -> None:
    """Refuse a tokenizer that reads a text otherwise of which it has every piece.

    Raises:
        DeescError: It does.
    """
    again = trimmed.encode_batch(texts, add_special_tokens=False)
    for text, before, after in zip(texts, read, again, strict=True):
        if after.tokens != before and all(token in new for token in before):
            raise DeescError(f"the trimmed tokenizer reads {text[:80]!r} differently")


def _with_backend(
    tokenizer: PreTrainedTokenizerBase, content: dict[str, Any]
) -> PreTrainedTokenizerBase:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / TOKENIZER_FILE).write_text(json.dumps(content), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder)
