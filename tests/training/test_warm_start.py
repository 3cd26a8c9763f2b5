from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_bundle import write_tiny_bundle

from deesc_model import EscalationClassifier, Turn
from deesc_model.encoding import InputEncoder
from deesc_model.errors import BundleError, DeescError
from training.config import Config
from training.model import LossWeights
from training.warm_start import bundle_to_start_from, mix_weights, starting_model

PLAIN = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)
FAST = Config(base_model="models/fast")


def test_a_model_that_starts_from_a_bundle_says_what_the_bundle_says():
    texts = [
        "Thank you, that solved it!",
        "I have called three times and nobody knows where my parcel is.",
        "You useless idiots, I want your manager NOW or my lawyer will call.",
    ]
    classifier = EscalationClassifier.from_pretrained("models/fast")
    settings = bundle_to_start_from(FAST).config.encoder
    model, tokenizer = starting_model(FAST, PLAIN)
    encoder = InputEncoder(tokenizer.backend_tokenizer, settings)
    windows = [encoder.encode(Turn("customer", text), ())[0] for text in texts]
    with torch.inference_mode():
        found = model(**{k: torch.from_numpy(v) for k, v in encoder.collate(windows).items()})
    levels = found["level_logits"].softmax(dim=1).argmax(dim=1).tolist()
    assert levels == [int(each.level) for each in classifier.predict_batch(texts)]
    assert len(set(levels)) == 3
    assert model.dropout.p == FAST.dropout
    assert model.loss_weights == PLAIN


def test_a_folder_without_a_manifest_is_a_base_model(base_model):
    assert bundle_to_start_from(Config(base_model=str(base_model))) is None
    model, _ = starting_model(Config(base_model=str(base_model)), PLAIN)
    assert not np.any(model.heads.query.weight.detach().numpy())


def test_a_source_that_the_bundle_may_have_learned_from_is_not_held_out():
    with pytest.raises(DeescError, match=r"held_out_source 'xci': models/fast may have learned"):
        bundle_to_start_from(replace(FAST, held_out_source="xci"))


def test_what_a_model_begins_with_is_not_replaced_by_it():
    with pytest.raises(DeescError, match=r"bundle_dir '\./models/fast' is what the model begins"):
        bundle_to_start_from(replace(FAST, bundle_dir="./models/fast"))


def test_another_level_head_is_refused():
    with pytest.raises(DeescError, match=r"level_head 'corn': models/fast has 'softmax'"):
        bundle_to_start_from(replace(FAST, level_head="corn"))


def test_a_share_of_no_bundle_is_refused(base_model):
    config = Config(base_model=str(base_model), start_share=0.5)
    with pytest.raises(DeescError, match=r"start_share 0\.5 is a share of a bundle's weights"):
        bundle_to_start_from(config)


def test_weights_are_mixed_by_hand():
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 8.0]]))
        model.bias.zero_()
    mix_weights(model, {"weight": torch.tensor([[0.0, 4.0]]), "bias": torch.tensor([2.0])}, 0.25)
    assert model.weight.tolist() == [[3.0, 7.0]]
    assert model.bias.tolist() == [0.5]


def test_a_damaged_bundle_and_a_network_of_another_kind_are_refused(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    config = Config(base_model=str(bundle))
    with pytest.raises(DeescError, match="only a BERT or an MPNet"):
        starting_model(config, PLAIN)
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        starting_model(config, PLAIN)
