"""Unlabelled conversations as `training.ingest` saves them: a Hugging Face dataset on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, Value, disable_progress_bars, load_from_disk

from training.corpus import DataError

PARTIAL = ".partial"
"""End of the name of a set that is not finished."""

FEATURES = Features(
    {
        "conversation_id": Value("string"),
        "turn": Value("int64"),
        "speaker": Value("string"),
        "text": Value("string"),
        "channel": Value("string"),
        "domain": Value("string"),
        "file": Value("string"),
        "line": Value("int64"),
    }
)


@dataclass(frozen=True, slots=True)
class IngestedTurn:
    """One masked turn without labels.

    Attributes:
        conversation_id: Name of the set and number of the conversation in it.
        turn: Position in the conversation, from 0.
        speaker: ``"customer"`` or ``"agent"``.
        text: What was said, masked.
        channel: As in the corpus.
        domain: As in the corpus.
        file: Name of the file that it came from, masked.
        line: Where it stood there.
    """

    conversation_id: str
    turn: int
    speaker: str
    text: str
    channel: str
    domain: str
    file: str
    line: int


def save_ingested(turns: Sequence[IngestedTurn], folder: Path) -> None:
    """Save turns into a folder; it may be there already."""
    disable_progress_bars()
    columns = {name: [getattr(turn, name) for turn in turns] for name in FEATURES}
    Dataset.from_dict(columns, features=FEATURES).save_to_disk(folder)


def load_ingested(folder: Path) -> list[IngestedTurn]:
    """Read a set back.

    Raises:
        DataError: The folder is not one that `training.ingest` wrote.
    """
    disable_progress_bars()
    try:
        rows = load_from_disk(str(folder)).to_list()
        return [IngestedTurn(**row) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} is not a set that training.ingest wrote: {error}") from None


def ingested_sets(folder: Path) -> list[Path]:
    """Return the finished sets in a folder."""
    return sorted(
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if not path.parent.name.endswith(PARTIAL)
    )
