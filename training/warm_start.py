"""What fine-tuning begins with: a pre-trained encoder and new heads, or a whole bundle.

A bundle carries int8 weights and no checkpoint. Multiplied out they are within rounding of what
was trained. Learning on, a network drifts away from what it knew; the mean of the weights before
and after keeps most of both.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from deesc_model.bundle import MANIFEST_FILE, Bundle, read_bundle
from deesc_model.encoding import INPUT_NAMES, InputEncoder
from deesc_model.errors import DeescError
from training.bundle_network import encoder_options, float_network, state_of
from training.config import Config
from training.model import EscalationModel, LossWeights, new_encoder, new_model

TOLERANCE = 1e-3
"""Largest difference between a logit of torch and of onnxruntime, both in fp32."""


def bundle_to_start_from(config: Config) -> Bundle | None:
    """Return the bundle that `base_model` names, or None if it is no bundle.

    Raises:
        BundleError: The bundle is damaged.
        DeescError: It has another level head, or has seen the source that is to be held out; or
            a share of its weights is asked for and there is none.
    """
    folder = Path(config.base_model)
    if not (folder / MANIFEST_FILE).is_file():
        if config.start_share:
            raise DeescError(
                f"start_share {config.start_share:g} is a share of a bundle's weights, and"
                f" base_model {config.base_model!r} is the folder of none"
            )
        return None
    if config.held_out_source:
        raise DeescError(
            f"held_out_source {config.held_out_source!r}: {folder} may have learned from it;"
            " start from a base_model that is no bundle"
        )
    if folder.resolve() == Path(config.bundle_dir).resolve():
        raise DeescError(
            f"bundle_dir {config.bundle_dir!r} is what the model begins with; choose another, and"
            " put that in its place when it has won"
        )
    bundle = read_bundle(folder)
    head = bundle.config.calibration.level_head
    if head != config.level_head:
        raise DeescError(f"level_head {config.level_head!r}: {folder} has {head!r}")
    return bundle


def start_origin(start: Bundle | None) -> dict[str, str]:
    """Return the version of the bundle to begin with, which must be the same to resume."""
    return {"start_bundle": start.manifest.model_version} if start else {}


def starting_model(
    config: Config, loss_weights: LossWeights
) -> tuple[EscalationModel, PreTrainedTokenizerBase]:
    """Return the model to fine-tune, and its tokenizer.

    Args:
        config: Says what it begins with.
        loss_weights: As for `EscalationModel`.

    Raises:
        DeescError: As `bundle_to_start_from` and `new_model` say, or the bundle's network is of
            a kind that cannot be taken apart.
    """
    bundle = bundle_to_start_from(config)
    if bundle is None:
        return new_model(config.base_model, config.level_head, config.dropout, loss_weights)
    return bundle_model(bundle, config.dropout, loss_weights), packed_tokenizer(bundle)


def bundle_model(
    bundle: Bundle, dropout: float = 0.0, loss_weights: LossWeights | None = None
) -> EscalationModel:
    """Return a bundle's network as a torch model in fp32, in evaluation mode.

    Args:
        bundle: Its weights may be int8.
        dropout: As for `EscalationModel`.
        loss_weights: As for `EscalationModel`.

    Raises:
        DeescError: As `network_to_torch` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "fp32.onnx"
        onnx.save(float_network(bundle.model_path), network)
        head = bundle.config.calibration.level_head
        return network_to_torch(network, head, dropout, loss_weights)


def mix_weights(model: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Give a model the weighted mean of its weights and of those that it began with.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, 2022.

    Args:
        model: Changed in place.
        start: Its state before it learned.
        share: Weight 0–1 of the start.
    """
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.lerp_(start[name].to(weight), share)


def network_to_torch(
    network: Path,
    level_head: str,
    dropout: float = 0.0,
    loss_weights: LossWeights | None = None,
) -> EscalationModel:
    """Return the torch model of a network in fp32, in evaluation mode.

    Args:
        network: ONNX file of `training.bundle_network.float_network`.
        level_head: The bundle's.
        dropout: As for `EscalationModel`.
        loss_weights: As for `EscalationModel`.

    Raises:
        DeescError: It is neither a BERT nor an MPNet, it was quantised in another way than this
            package does it, or the torch model's logits are others: its architecture was misread.
    """
    graph = onnx.load(network)
    try:
        encoder = new_encoder(AutoConfig.for_model(**encoder_options(graph)))
        model = EscalationModel(encoder, level_head, dropout, loss_weights).eval()
        model.load_state_dict(
            {name: torch.from_numpy(array.copy()) for name, array in state_of(graph).items()}
        )
    except (RuntimeError, KeyError, StopIteration) as error:
        raise DeescError(f"the bundle's network cannot be taken apart: {error}") from None
    _check(model, network)
    return model


def _check(model: EscalationModel, network: Path) -> None:
    """Compare logits on two rows of tokens, the second of them shorter."""
    vocabulary = model.encoder.config.vocab_size
    tokens = np.arange(1000, 1036, dtype=np.int64).reshape(2, 18) % vocabulary
    masks = np.ones_like(tokens)
    masks[1, 12:] = 0
    tokens[1, 12:] = model.encoder.config.pad_token_id
    arrays = dict(zip(INPUT_NAMES, (tokens, masks, masks), strict=True))
    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    session = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
    for name, expected in zip(found, session.run(list(found), arrays), strict=True):
        difference = float(np.abs(found[name].numpy() - expected).max())
        if not difference <= TOLERANCE:
            raise DeescError(
                f"{name} of the torch model differs by {difference:.1e} from onnxruntime's: the"
                " network has another architecture than training/bundle_network.py reads from it"
            )


def packed_tokenizer(bundle: Bundle) -> PreTrainedTokenizerFast:
    """Return a bundle's tokenizer as transformers has it; its special tokens' names vary."""
    path = bundle.tokenizer_path
    tokenizer = Tokenizer.from_file(str(path))
    first, *_, last = tokenizer.encode("hello").tokens
    pad = InputEncoder(tokenizer, bundle.config.encoder).pad_id
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        cls_token=first,
        sep_token=last,
        pad_token=tokenizer.id_to_token(pad),
        unk_token=json.loads(path.read_text(encoding="utf-8"))["model"]["unk_token"],
    )
