import dataclasses
from pathlib import Path

import torch

from training import fine_tuning
from training.corpus import load_corpus, select_split
from training.fine_tuning import fine_tune
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
