"""What commands say on standard error: notes, and how far they are."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from deesc_model.archive.pace import Pace
from deesc_model.archive.places import Place

LOG_EVERY_S = 60.0
"""Seconds between two lines about the progress where standard error is no terminal."""


def note(message: str) -> None:
    """Say a line."""
    if sys.stderr is not None:
        print(message, file=sys.stderr)


def note_left_out(counts: Counter[str]) -> None:
    """Say what of transcripts was nothing that anybody said to the other."""
    if counts:
        note(f"left out: {', '.join(f'{kind} ({count})' for kind, count in counts.items())}")


def plain_name(files: Sequence[Place]) -> str:
    """Return what progress is called by."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (files[0].name if str(files[0]) != "-" else "stdin") + more


@contextlib.contextmanager
def progress(name: str, unit: str) -> Iterator[tuple[Pace, Callable[[int, float, float], None]]]:
    """Show on standard error what is done, how fast, and how long the rest will take.

    A terminal gets a bar, anything else a line now and then.
    """
    console = Console(stderr=True)
    pace = Pace(unit)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, pace="")
        said = time.monotonic()

        def advance(count: int, work: float, left: float) -> None:
            nonlocal said
            pace.advance(count, work, left)
            if console.is_terminal:
                share = pace.share
                total = None if share is None else 1
                bar.update(task, total=total, completed=share or 0, pace=str(pace))
            elif time.monotonic() - said >= LOG_EVERY_S:
                said = time.monotonic()
                note(f"{name}: {pace}")

        yield pace, advance
