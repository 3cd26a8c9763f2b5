"""From windows over labels to an output: the one way in which rows are scored."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from deesc_model.archive.labelling import Labeller
from deesc_model.archive.outputs import Output
from deesc_model.archive.windows import Window
from deesc_model.records import BadRecord


@dataclass(slots=True)
class Counts:
    """What a run did.

    Attributes:
        labelled: Rows that were labelled and written.
        skipped: Rows that were written aside.
        left_out: How often what of transcripts was not said to the other side.
        silent: Customers who were named and speak in no source.
    """

    labelled: int = 0
    skipped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    silent: Sequence[str] = ()


def score(
    windows: Iterable[Window],
    label: Labeller,
    output: Output,
    *,
    begin: Callable[[], None] = lambda: None,
    advance: Callable[[int, float, float], None] = lambda count, work, left: None,
) -> Counts:
    """Label all rows of the parts that the output lacks.

    Args:
        windows: The rows, as of `windows.Wanted`.
        label: The model.
        output: Where rows go.
        begin: Called when there is something to label.
        advance: Called for each window with its rows, its bytes, and those that are left.

    Raises:
        InvalidInputError: As of `windows` and `output`.
    """
    counts = Counts()
    for window, predictions in label(windows, begin):
        counts.left_out.update(window.left_out)
        counts.silent = window.silent
        given = iter(predictions)
        for part, item in window.items:
            there = part in output.there
            if isinstance(item, BadRecord):
                if not there:
                    output.spoil(part, window, item)
                    counts.skipped += 1
                continue
            prediction = next(given)
            if there:
                continue
            output.write(part, window, item, prediction)
            counts.labelled += 1
        advance(len(window.items), window.size, window.left)
    return counts
