import json
import math
from dataclasses import replace

import pytest
import torch
from conversations import MOODS, NUMBERS, utterance
from transformers import PreTrainedTokenizerBase

from deesc_model.errors import DeescError
from training import intermediate, own_labels
from training.fine_tuning import use_bf16
from training.intermediate import (
    OwnLabelModel,
    collate,
    intermediate_base,
    own_labelled_texts,
    recipe,
    to_dataset,
)
from training.model import load_base
from training.own_labels import OwnLabelled, label_places, load_own_labelled, values


def write_source(folder, name, rows):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("anger", ["anger"]),
        (3, ["3"]),
        (None, ["None"]),
        (["joy", "love"], ["joy", "love"]),
        ([], []),
        ([1, 0, -2], ["0"]),
        ([-2, -3, -3], ["-3"]),
    ],
)
def test_a_field_says_one_value_or_several(field, expected):
    assert values(field) == expected


def test_texts_come_with_the_labels_of_their_source(tmp_path):
    mine = [
        {"id": "xci:1", "text": "where is it", "severity": 2, "emotion": "anger", "cause": "x"},
        {"id": "xci:2", "text": " ", "severity": 1, "emotion": "joy"},
    ]
    write_source(tmp_path, "xci", mine)
    write_source(tmp_path, "goemotions", [{"id": "g:1", "text": "yay", "emotions": ["joy"]}])
    write_source(tmp_path, "banking77", [{"id": "b:1", "text": "which card", "intent": "card"}])
    found = load_own_labelled(tmp_path, [], held_out="", seed=1)
    assert [(each.text.text, each.text.source, each.labels) for each in found] == [
        ("where is it", "xci", ("xci severity 2", "xci emotion anger")),
        ("yay", "goemotions", ("goemotions emotions joy",)),
    ]
    (left,) = load_own_labelled(tmp_path, [], held_out="xci", seed=1)
    assert left.text.source == "goemotions"


def test_a_field_that_a_text_lacks_says_nothing(tmp_path):
    write_source(tmp_path, "xci", [{"id": "xci:1", "text": "late"}])
    write_source(tmp_path, "incivility", [{"id": "i:1", "text": "late too", "tone": None}])
    (found,) = load_own_labelled(tmp_path, [], held_out="", seed=1)
    assert found.labels == ("incivility tone None",)


def test_texts_for_testing_and_their_likes_are_left_out(tmp_path):
    long = "the very same complaint about the parcel that never came to my door in march"
    texts = [long, f"{long} !", "another one", "Another  ONE", "a third"]
    rows = [{"id": f"xci:{k}", "text": text, "severity": 0} for k, text in enumerate(texts)]
    write_source(tmp_path, "xci", rows)
    held = [utterance(text=long, split="test"), utterance(text="another one", split="validation")]
    found = load_own_labelled(tmp_path, held, held_out="", seed=1)
    assert [each.text.text for each in found] == ["a third"]


def test_a_large_source_is_drawn_from(tmp_path, monkeypatch):
    monkeypatch.setattr(own_labels, "TEXTS_OF_EACH", 5)
    rows = [{"id": str(k), "text": f"text {NUMBERS[k]}", "emotions": ["joy"]} for k in range(12)]
    write_source(tmp_path, "goemotions", rows)
    found = load_own_labelled(tmp_path, [], held_out="", seed=1)
    assert len({each.text.text for each in found}) == 5
    assert found == load_own_labelled(tmp_path, [], held_out="", seed=1)
    assert found != load_own_labelled(tmp_path, [], held_out="", seed=2)


def test_a_text_learns_from_the_labels_of_its_own_source_alone(base_model):
    encoder, _ = load_base(str(base_model))
    model = OwnLabelModel(encoder, 3).eval()
    torch.nn.init.zeros_(model.heads.value.weight)
    model.heads.value.bias.data = torch.tensor([0.0, 2.0, -1.0])
    ids = torch.tensor([[2, 10, 3], [2, 11, 3]])
    masks = torch.ones_like(ids)
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    asked = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = model(ids, masks, masks, targets, asked)["loss"].item()
    # The first: -log .5 for the label it has, -log(1 - sigmoid(2)) for the one it lacks.
    first = math.log(2) + math.log(1 + math.exp(2))
    second = math.log(1 + math.exp(1))
    assert found == pytest.approx((first + second) / 2, rel=1e-5)


def test_what_was_asked_is_every_label_of_the_source(base_model, tiny_config):
    _, tokenizer = load_base(str(base_model))
    reader = intermediate.make_encoder(tokenizer, tiny_config)
    texts = [
        OwnLabelled(utterance(text="thanks", source="xci"), ("xci severity 0",)),
        OwnLabelled(utterance(text="late", source="xci"), ("xci severity 2", "xci emotion anger")),
        OwnLabelled(utterance(text="yay", source="goemotions"), ("goemotions emotions joy",)),
    ]
    places = label_places(texts)
    assert list(places) == [
        *("goemotions emotions joy", "xci emotion anger", "xci severity 0", "xci severity 2")
    ]
    batch = collate(list(to_dataset(texts, places, reader)), reader, places)
    assert batch["targets"].tolist() == [[0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert batch["asked"].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 0]]


@pytest.fixture
def config(tiny_config, tmp_path):
    rows = [
        {"id": f"xci:{k}", "text": f"{MOODS[k % 5][0]} {NUMBERS[k % 12]}", "severity": k % 5}
        for k in range(60)
    ]
    write_source(tmp_path / "raw", "xci", rows)
    return replace(tiny_config, intermediate_dir=str(tmp_path / "bases"), intermediate_epochs=2)


def prepared(config):
    return intermediate_base(config, own_labelled_texts(config))


@pytest.mark.filterwarnings("ignore", "error:::training")
def test_the_encoder_is_kept_and_found_again(config, tmp_path, monkeypatch):
    made = prepared(config)
    encoder, tokenizer = load_base(made)
    before, _ = load_base(config.base_model)
    changed = [
        not torch.equal(value, before.state_dict()[name])
        for name, value in encoder.state_dict().items()
        if value.is_floating_point()
    ]
    assert all(changed)
    assert tokenizer("late")["input_ids"]
    assert [path.name for path in (tmp_path / "bases").iterdir()] == [made.split("/")[-1]]
    monkeypatch.setattr(intermediate, "_make", lambda *_: pytest.fail("it is here already"))
    assert prepared(replace(config, seed=8, epochs=1)) == made
    other = replace(config, precision={True: "fp32", False: "bf16"}[use_bf16(config.precision)])
    for changed in (other, replace(config, intermediate_epochs=3)):
        with pytest.raises(pytest.fail.Exception):
            prepared(changed)


def test_a_text_with_other_labels_is_another_text(config, tmp_path):
    before = recipe(config)
    assert "the labels that 60 public texts came with (xci)" in before.how
    file = tmp_path / "raw" / "xci.jsonl"
    file.write_text(file.read_text().replace('"severity": 1', '"severity": 2'))
    assert recipe(config).origins != before.origins


def test_without_such_texts_the_base_model_stays_as_it_is(tiny_config, config):
    assert prepared(replace(config, intermediate_epochs=0)) == config.base_model
    elsewhere = replace(config, sources=f"{tiny_config.sources}/nowhere")
    assert prepared(elsewhere) == config.base_model
    assert recipe(elsewhere).how == "Fine-tuned on the training split."
    assert recipe(elsewhere).origins == {}


def test_what_cannot_be_trained_is_said_first(config, tmp_path, monkeypatch):
    with pytest.raises(DeescError, match=r"max_length 9999: .*base0? reads 64"):
        prepared(replace(config, max_length=9999))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(DeescError, match="cannot be shared evenly by 3"):
        prepared(replace(config, batch_size=16))
    assert not list((tmp_path / "bases").glob("*"))


@pytest.mark.filterwarnings("ignore", "error:::training")
def test_a_full_disk_leaves_nothing(config, tmp_path, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", no_space)
    with pytest.raises(OSError, match="No space"):
        prepared(config)
    assert not list((tmp_path / "bases").iterdir())
    monkeypatch.undo()
    assert load_base(prepared(config))


@pytest.mark.filterwarnings("ignore", "error:::training")
def test_two_runs_that_need_the_same_do_not_disturb_each_other(config, monkeypatch):
    save, other = PreTrainedTokenizerBase.save_pretrained, []

    def save_after_another(*args, **options):
        if not other:
            other.append(True)
            other.append(prepared(config))
        return save(*args, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", save_after_another)
    assert prepared(config) == other[1]
    assert load_base(other[1])
