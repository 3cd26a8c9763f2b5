"""Which parts of a folder are whole: a line for each, written once it is on the disk.

A part without its line, or of another size than that says, is not whole and is made again.
"""

import json
from collections.abc import Callable
from typing import Final

from deesc_model.archive.folders import Folder
from deesc_model.files import as_text

LEDGER_FILE: Final = "_parts.jsonl"

Entry = dict[str, int]
_FIELDS: Final = ("part", "rows", "skipped", "bytes", "skipped_bytes")


class Ledger:
    """The whole parts of a folder.

    Args:
        folder: The folder.
        files_of: Names the two files of a part: its rows, and those that were skipped.
    """

    def __init__(self, folder: Folder, files_of: Callable[[int], tuple[str, str]]) -> None:
        self._folder = folder
        self._files_of = files_of
        found = "" if folder.size(LEDGER_FILE) is None else folder.read(LEDGER_FILE)
        self._entries = {
            entry["part"]: entry
            for entry in _read(found)
            if entry == {**entry, **self._sizes(entry["part"])}
        }
        if found:
            self.tidy()  # a kill may have left half a line

    @property
    def parts(self) -> frozenset[int]:
        """Numbers of the parts that are whole."""
        return frozenset(self._entries)

    @property
    def rows(self) -> int:
        """Rows of the parts that are whole, labelled and skipped."""
        return sum(entry["rows"] + entry["skipped"] for entry in self._entries.values())

    def enter(self, part: int, rows: int, skipped: int) -> None:
        """Say that a part is whole and where it should be, and how many rows it has."""
        entry = {"part": part, "rows": rows, "skipped": skipped, **self._sizes(part)}
        self._entries[part] = entry
        self._folder.append(LEDGER_FILE, _line(entry))

    def tidy(self) -> None:
        """Write it anew, in order."""
        with self._folder.open(LEDGER_FILE) as raw, as_text(raw) as stream:
            stream.writelines(_line(self._entries[part]) for part in sorted(self._entries))

    def _sizes(self, part: int) -> Entry:
        rows, skipped = map(self._folder.size, self._files_of(part))
        return {"bytes": -1 if rows is None else rows, "skipped_bytes": skipped or 0}


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"


def _read(text: str) -> list[Entry]:
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # it was being written when the run was killed
            continue
        known = isinstance(entry, dict) and entry.keys() == set(_FIELDS)
        if known and all(type(value) is int for value in entry.values()):
            found.append(entry)
    return found
