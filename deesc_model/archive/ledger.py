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
            if entry == self._measured(entry["part"])
        }
        if self._file.exists():
            self.tidy()  # a kill may have left half a line

    @property
    def parts(self) -> frozenset[int]:
        """Numbers of the parts that are whole."""
        return frozenset(self._entries)

    def enter(self, part: int) -> None:
        """Say that a part is whole and on the disk."""
        self._entries[part] = entry = self._measured(part)
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())

    def tidy(self) -> None:
        """Write it anew, in order."""
        with open_output(self._file, keep=False) as stream:
            stream.writelines(_line(self._entries[part]) for part in sorted(self._entries))

    def _measured(self, part: int) -> Entry:
        rows, skipped = (_size(file) for file in self._files_of(part))
        return {"part": part, "bytes": rows, "skipped_bytes": skipped}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"


def _read(file: Path) -> list[Entry]:
    found = []
    for line in file.read_text("utf-8", "replace").splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # it was being written when the run was killed
            continue
        if isinstance(entry, dict) and type(entry.get("part")) is int:
            found.append(entry)
    return found
