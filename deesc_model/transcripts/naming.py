"""What a conversation is called for which its file has no id."""

from collections import Counter
from collections.abc import Sequence

from deesc_model.files import InputFile


def names_by_file(files: Sequence[InputFile]) -> list[str]:
    """Return for each file of a run what a conversation without an id is called in it.

    It is the file's stem; where others have the same one, its path without the suffix, and where
    only the suffix differs the whole path. Two conversations of one name would be read as one.
    """
    choices = [_choices(file) for file in files]
    taken = Counter(name for names in choices for name in names)
    return [next((name for name in names if taken[name] == 1), names[-1]) for names in choices]


def _choices(file: InputFile) -> list[str]:
    path = str(file)
    stem = "stdin" if path == "-" else file.stem
    return list(dict.fromkeys((stem, path.removesuffix(file.suffix), path)))
