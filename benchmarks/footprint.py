"""How much a contender takes on disk: its packages, those that they need, and its model."""

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.contenders import Entry, Settings


def installed_mb(entry: Entry, settings: Settings) -> float:
    """Return the MiB of a contender's packages and model, the interpreter apart."""
    bundle = settings.bundle(entry.network)
    if not entry.file:
        paths = [bundle, Path(__file__).parents[1] / "deesc_model"]
    else:
        paths = [settings.folder / entry.network / entry.file]
        if "tokenizers" in entry.packages:
            paths.append(bundle / "tokenizer.json")
    size = sum(map(_size, paths))
    return (size + sum(map(_distribution_size, closure(entry.packages)))) / 2**20


def closure(names: tuple[str, ...]) -> set[str]:
    """Return distributions and all that they need on this machine, without extras."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(wanted.name))
    return found


def _distribution_size(name: str) -> int:
    files = importlib.metadata.files(name) or ()
    return sum(_size(Path(str(each.locate()))) for each in files if each.suffix != ".pyc")


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(
            each.stat().st_size
            for each in path.rglob("*")
            if each.suffix != ".pyc" and each.is_file()
        )
    return path.stat().st_size if path.is_file() else 0
