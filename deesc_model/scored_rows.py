"""Rows with what was predicted of them: written as JSON Lines and CSV, and read back.

JSON Lines rows keep their fields and gain an object ``deesc``; tables gain `PREDICTION_COLUMNS`.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

from deesc_model.errors import InvalidInputError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.records import Record, storable_text, table_text
from deesc_model.types import Prediction

PREDICTION_COLUMNS: Final = (
    "deesc_level",
    "deesc_level_name",
    "deesc_frustration",
    "deesc_uncertain",
    "deesc_triggers",
    "deesc_signals",
    *(f"deesc_level_{int(level)}" for level in Level),
    *(f"deesc_{name}" for name in (*TRIGGERS, *SIGNALS)),
    "deesc_model_version",
)
"""The columns that a table gains."""

ADDED: Final = frozenset((*PREDICTION_COLUMNS, "deesc"))
"""Fields of an earlier run, of a table or not; they are replaced."""

RowWriter = Callable[[Record, Prediction], None]


@contextlib.contextmanager
def record_writer(
    stream: TextIO, file_format: str, columns: Sequence[str] = ()
) -> Iterator[RowWriter]:
    """Open a function that writes one row with its prediction as text.

    JSON Lines rows keep their fields and gain an object ``deesc``; CSV rows gain columns
    ``deesc_level``, ``deesc_frustration``, ``deesc_triggers`` and so on, lists joined by
    spaces, one column for each score. What an earlier run added is replaced.

    Args:
        stream: Open with ``newline=""``.
        file_format: ``"jsonl"`` or ``"csv"``.
        columns: The fields that a CSV table has columns for, all that its rows have; none: those
            of the first row. They are read when that is written, or at the end of a table without
            rows.
    """
    if file_format == "jsonl":
        yield lambda record, prediction: _write_json(stream, record, prediction)
        return
    # Python 3.11 leaves a lone carriage return unquoted unless it ends lines.
    writer = csv.writer(stream, lineterminator="\r\n")
    header: list[str] = []

    def begin(names: Iterable[str]) -> None:
        header.extend(name for name in names if name not in ADDED)
        writer.writerow([*map(_cell, header), *PREDICTION_COLUMNS])

    def write(record: Record, prediction: Prediction) -> None:
        if not header:
            begin(columns or record.row)
        kept = (_cell(record.row.get(name, "")) for name in header)
        writer.writerow([*kept, *flat_prediction(prediction).values()])

    yield write
    if not header:
        begin(columns or ("text",))


def _cell(value: object) -> str:
    """Return a field, or its name, as a CSV table shows it; bytes that are not UTF-8 stay."""
    text = "" if value is None else table_text(value)
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, from a JSON escape
        return storable_text(value)
    return text


def _write_json(stream: TextIO, record: Record, prediction: Prediction) -> None:
    row = {name: value for name, value in record.row.items() if name not in ADDED}
    row["deesc"] = prediction.to_dict()
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # a lone surrogate in some other field
        line = json.dumps(row, ensure_ascii=True)
    stream.write(line + "\n")


def flat_prediction(prediction: Prediction) -> dict[str, str | int | float]:
    """Return a prediction as one flat row with `PREDICTION_COLUMNS`, for tables."""
    return {
        "deesc_level": int(prediction.level),
        "deesc_level_name": prediction.level.label,
        "deesc_frustration": round(prediction.frustration, 4),
        "deesc_uncertain": int(prediction.uncertain),
        "deesc_triggers": " ".join(prediction.triggers),
        "deesc_signals": " ".join(prediction.signals),
        **{f"deesc_level_{k}": round(v, 4) for k, v in enumerate(prediction.level_scores)},
        **{f"deesc_{k}": round(v, 4) for k, v in prediction.trigger_scores.items()},
        **{f"deesc_{k}": round(v, 4) for k, v in prediction.signal_scores.items()},
        "deesc_model_version": prediction.model_version,
    }


def _names(cell: Any) -> list[str]:
    """Return the names in a cell: Parquet has lists of them, CSV text."""
    return cell if isinstance(cell, list) else cell.split()


def prediction_of_row(row: Mapping[str, Any]) -> Prediction:
    """Return the prediction that `record_writer` put into a row of any format.

    Raises:
        InvalidInputError: There is none, or a field of it is missing or has the wrong form.
    """
    if "deesc" in row:
        return Prediction.from_dict(row["deesc"])
    if "deesc_level" not in row:
        raise InvalidInputError(
            "not scored, there is neither a field deesc nor deesc_level; run: deesc score"
        )
    try:
        data = {
            "level": int(row["deesc_level"]),
            "frustration": row["deesc_frustration"],
            "uncertain": bool(int(row["deesc_uncertain"])),
            "triggers": _names(row["deesc_triggers"]),
            "signals": _names(row["deesc_signals"]),
            "level_scores": [row[f"deesc_level_{int(level)}"] for level in Level],
            "trigger_scores": {name: row[f"deesc_{name}"] for name in TRIGGERS},
            "signal_scores": {name: row[f"deesc_{name}"] for name in SIGNALS},
            "model_version": row["deesc_model_version"],
        }
    except KeyError as error:
        raise InvalidInputError(f"no column {error.args[0]}") from None
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"not a prediction: {error}") from None
    return Prediction.from_dict(data)
