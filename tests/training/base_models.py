"""Base models that fit in a test: a few narrow layers and random weights."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
)


def write_base_model(folder: Path, words: list[str], layers: int = 2) -> Path:
    """Write a BERT whose tokenizer knows `words` and single letters."""
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
    size = _write_tokenizer(folder, words, names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def write_wider_base_model(folder: Path, words: list[str]) -> Path:
    """Write an MPNet: no segments, other special tokens, and BERT's among the words."""
    names = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]"}
    size = _write_tokenizer(folder, [*words, "[MASK]"], names)
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=size,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
    )
    MPNetModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path, words: list[str], names: dict[str, str]) -> int:
    """Write a WordPiece tokenizer with special tokens in the order of `names`; return its size."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = dict.fromkeys([*names.values(), *letters, *(f"##{c}" for c in letters), *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = ((names[kind], vocabulary[names[kind]]) for kind in ("sep", "cls"))
    tokenizer.post_processor = processors.BertProcessing(*ends)
    pad = names["pad"]  # published checkpoints pad to a length
    tokenizer.enable_padding(length=128, pad_token=pad, pad_id=vocabulary[pad])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{kind}_token": name for kind, name in names.items()}
    ).save_pretrained(folder)
    return len(vocabulary)
