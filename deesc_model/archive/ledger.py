"""Which parts of a folder are whole: a line for each, written once it is on the disk.

A part without its line, or of another size than that says, is not whole and is made again.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deesc_model.files import open_output

LEDGER_FILE: Final = "_parts.jsonl"

Entry = dict[str, int]
_FIELDS: Final = ("part", "rows", "skipped", "bytes", "skipped_bytes")


class Ledger:
    """The whole parts of a folder.

    Args:
        folder: The folder.
        files_of: Says which two files a part has: its rows, and those that were skipped.
    """

    def __init__(self, folder: Path, files_of: Callable[[int], tuple[Path, Path]]) -> None:
        self._file = folder / LEDGER_FILE
        self._files_of = files_of
        self._entries = {
            entry["part"]: entry
            for entry in _read(self._file)
            if entry == {**entry, **self._sizes(entry["part"])}
        }
        if self._file.exists():
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
        """Say that a part is whole and on the disk, and how many rows it has."""
        entry = {"part": part, "rows": rows, "skipped": skipped, **self._sizes(part)}
        self._entries[part] = entry
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())

    def tidy(self) -> None:
        """Write it anew, in order."""
        with open_output(self._file, keep=False) as stream:
            stream.writelines(_line(self._entries[part]) for part in sorted(self._entries))

    def _sizes(self, part: int) -> Entry:
        rows, skipped = self._files_of(part)
        return {
            "bytes": rows.stat().st_size if rows.exists() else -1,
            "skipped_bytes": skipped.stat().st_size if skipped.exists() else 0,
        }


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"


def _read(file: Path) -> list[Entry]:
    found = []
    for line in file.read_text("utf-8", "replace").splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # it was being written when the run was killed
            continue
        known = isinstance(entry, dict) and entry.keys() == set(_FIELDS)
        if known and all(type(value) is int for value in entry.values()):
            found.append(entry)
    return found
