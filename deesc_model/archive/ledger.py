"""Which parts of a folder are whole: a line for each, written once it is on the disk.

A part without its line, or of another size than that says, is not whole and is made again.
"""

import json
from typing import Final

from deesc_model.archive.folders import Folder
from deesc_model.files import as_text

LEDGER_FILE: Final = "_parts.jsonl"

SKIPPED_FOLDER: Final = "_skipped"
"""Where a folder of parts has the rows that were skipped; tools that read it pass it over."""

Entry = dict[str, int]
_FIELDS: Final = ("part", "rows", "skipped", "inputs", "bytes", "skipped_bytes")


def part_files(part: int, file_format: str) -> tuple[str, str]:
    """Name the two files of a part: its rows, and those that were skipped."""
    name = f"part-{part:06}"
    return f"{name}.{file_format}", f"{SKIPPED_FOLDER}/{name}.jsonl"


class Ledger:
    """The whole parts of a folder.

    Args:
        folder: The folder.
        file_format: One of `records.FORMATS`.
    """

    def __init__(self, folder: Folder, file_format: str) -> None:
        self._folder = folder
        self._format = file_format
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

    @property
    def inputs(self) -> int:
        """How many inputs, from the first on, the parts that are whole were made from."""
        return max((entry["inputs"] for entry in self._entries.values()), default=0)

    def files_of(self, part: int) -> tuple[str, str]:
        """As `part_files`."""
        return part_files(part, self._format)

    def enter(self, part: int, rows: int, skipped: int, inputs: int) -> None:
        """Say that a part is whole and where it should be.

        Args:
            part: Its number.
            rows: How many rows it has.
            skipped: How many rows of it were skipped.
            inputs: Which input its last row is of, from 1; 0 if it has none.
        """
        entry = {"part": part, "rows": rows, "skipped": skipped, "inputs": inputs}
        entry |= self._sizes(part)
        self._entries[part] = entry
        self._folder.append(LEDGER_FILE, _line(entry))

    def tidy(self) -> None:
        """Write it anew, in order."""
        with self._folder.open(LEDGER_FILE) as raw, as_text(raw) as stream:
            stream.writelines(_line(self._entries[part]) for part in sorted(self._entries))

    def reopen(self) -> None:
        """Get ready for other inputs after those that the parts were made from.

        What now comes next may belong to a part of which the next is not there.
        """
        self._entries = {
            part: entry for part, entry in self._entries.items() if part + 1 in self._entries
        }
        self.tidy()
        kept = {name for part in self._entries for name in self.files_of(part)}
        parts = [name for name in self._folder.names() if name.startswith("part-")]
        for name in (*parts, *self._folder.below(SKIPPED_FOLDER)):
            if name not in kept:
                self._folder.remove(name)

    def _sizes(self, part: int) -> Entry:
        rows, skipped = map(self._folder.size, self.files_of(part))
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
