"""From windows over labels to an output: the one way in which rows are scored."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from deesc_model.archive.labelling import Labeller
from deesc_model.archive.outputs import Output
from deesc_model.archive.windows import Window
from deesc_model.errors import InvalidInputError
from deesc_model.records import BadRecord


@dataclass(slots=True)
class Counts:
    """What a run did.

    Attributes:
        labelled: Rows that were labelled and written.
        skipped: Rows that were written aside.
        kept: Rows, good and bad, of parts that were there before.
    """

    labelled: int = 0
    skipped: int = 0
    kept: int = 0


def score(
    windows: Iterable[Window],
    label: Labeller,
    output: Output,
    *,
    skip: bool,
    begin: Callable[[], None] = lambda: None,
    advance: Callable[[int, float, float], None] = lambda count, work, left: None,
) -> Counts:
    """Label all rows of the parts that the output wants.

    Args:
        windows: The rows. A window is labelled whole if one of its rows is wanted, so that
            scores do not depend on what is there already.
        label: The model.
        output: Where rows go.
        skip: Whether a row that cannot be labelled is written aside, or else ends the run.
        begin: Called when there is something to label.
        advance: Called for each window with its rows, its bytes, and those that are left.

    Raises:
        InvalidInputError: A row cannot be labelled, or has no place in the output.
    """
    counts = Counts()

    def needed() -> Iterator[Window]:
        for window in windows:
            wanted = [item for part, item in window.items if output.wants(part)]
            counts.kept += len(window.items) - len(wanted)
            bad = next((item for item in wanted if isinstance(item, BadRecord)), None)
            if bad is not None and not skip:
                raise InvalidInputError(
                    f"{window.source.name}: {bad}; --on-error skip writes such rows aside"
                )
            if wanted:
                begin()
                yield window

    for window, predictions in label(needed()):
        given = iter(predictions)
        for part, item in window.items:
            if isinstance(item, BadRecord):
                if output.wants(part):
                    output.spoil(part, window.source, item)
                    counts.skipped += 1
                continue
            prediction = next(given)
            if output.wants(part):
                try:
                    output.write(part, item, prediction)
                except InvalidInputError as error:
                    raise InvalidInputError(f"{window.source.name}: {error}") from None
                counts.labelled += 1
        advance(len(window.items), window.size, window.left)
    return counts
