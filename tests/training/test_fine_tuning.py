import dataclasses
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from training import fine_tuning
from training.corpus import load_corpus, select_split
from training.fine_tuning import fine_tune, last_checkpoint
from training.model import load_checkpoint


def test_a_batch_that_goes_in_parts_takes_the_same_step(tiny_config, tmp_path, monkeypatch):
    config = dataclasses.replace(
        tiny_config,
        epochs=1,
        dropout=0.0,
        imbalance_power=0.0,  # with class weights a part would have a mean of its own
        precision="fp32",
    )
    rows = load_corpus(Path(config.corpus))
    splits = select_split(rows, "train"), select_split(rows, "validation")
    ids = torch.tensor([[2, 10, 11, 3, 20, 21, 3], [2, 12, 13, 14, 3, 0, 0]])
    parts: list[int] = []
    answers = []
    whole = fine_tuning.EscalationModel.all_logits

    def watched(model, input_ids, *masks):
        parts.append(len(input_ids))
        return whole(model, input_ids, *masks)

    monkeypatch.setattr(fine_tuning.EscalationModel, "all_logits", watched)
    for tokens in (fine_tuning.PASS_TOKENS, 60):  # 60: eight texts of 20 tokens go in three parts
        parts.clear()
        monkeypatch.setattr(fine_tuning, "PASS_TOKENS", tokens)
        checkpoint = tmp_path / str(tokens) / "checkpoint"
        checkpoint.parent.mkdir()
        fine_tune(config, *splits, None, checkpoint)
        assert (max(parts[:20]) < 8) == (tokens == 60)
        model, _, _ = load_checkpoint(checkpoint)
        with torch.inference_mode():
            answers.append(whole(model, ids, (ids > 0).long(), (ids > 0).long()))
    assert torch.allclose(*answers, atol=1e-3)
    assert answers[0].abs().max() > 0.1  # it has learned something


def test_what_early_stopping_has_ended_is_not_trained_further(tiny_config, tmp_path, monkeypatch):
    config = dataclasses.replace(
        tiny_config, epochs=9, patience=1, learning_rate=1e-8, head_learning_rate=1e-8
    )
    rows = load_corpus(Path(config.corpus))
    splits = select_split(rows, "train"), select_split(rows, "validation")
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:  # no real kill can be timed to this instant
        patch.setattr(fine_tuning, "save_checkpoint", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fine_tune(config, *splits, None, checkpoint)
    last = last_checkpoint(tmp_path / "trainer")
    assert 1 < fine_tuning.epochs_to_train(config, last) < 9  # the best is another, and is kept
    assert fine_tuning.epochs_to_train(dataclasses.replace(config, patience=9), last) == 9
    monkeypatch.setattr(fine_tuning._Trainer, "training_step", Mock(side_effect=AssertionError))
    assert fine_tune(config, *splits, None, checkpoint) > 0
    load_checkpoint(checkpoint)
