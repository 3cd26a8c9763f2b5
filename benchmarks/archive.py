"""What scoring an archive takes: turns a second, and whether memory depends on its length.

    python -m benchmarks.archive --turns 2000 20000 --processes 2
    python -m benchmarks.archive --turns 20000 --format parquet
    python -m benchmarks.archive --turns 100000 1000000 10000000 --stub

Conversations of our corpus's test split are repeated until there are so many turns, each with an
id of its own. `deesc score --parts` labels them in a process of its own, its start included; then
the parts are read to see that each turn is there once, in order. Memory is the highest that the
kernel saw for the process that reads and writes, and for the largest of those that label; Linux
only. With `--stub` the model says the same of each text, so that only reading, windows and writing
are measured: say so beside such figures.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Final

from deesc_model.bundle import default_bundle_path
from deesc_model.inputs import open_rows
from deesc_model.records import BadRecord, Row

CORPUS: Final = Path(__file__).parents[1] / "data" / "corpus"
GROUP: Final = 10_000
"""Rows of a row group that is written."""

Figures = dict[str, float]


def conversations_of(corpus: Path) -> list[list[Row]]:
    """Return the conversations of the test split, each a list of rows."""
    found = []
    for path in sorted(corpus.glob("*.jsonl")):
        rows = [row for row in _rows(path) if row["split"] == "test"]
        found += [list(talk) for _, talk in groupby(rows, lambda row: row["conversation_id"])]
    return found


def turns_of(conversations: Sequence[Sequence[Row]], count: int) -> Iterator[dict[str, Any]]:
    """Yield so many rows, numbered from 0, with a conversation_id for each repetition."""
    number = 0
    for again in itertools.count():
        for talk in conversations:
            for row in talk:
                if number == count:
                    return
                yield {
                    "row": number,
                    "conversation_id": f"{row['conversation_id']}-{again}",
                    "speaker": row["speaker"],
                    "text": row["text"],
                }
                number += 1


def write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write a file of rows in the format of its name, in constant memory."""
    if path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        return
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    names = ("conversation_id", "speaker", "text")
    schema = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in names)])
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def measure(command: Sequence[str]) -> Figures:
    """Run a command; return its seconds and the highest memory of it and of its children."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    main = labelling = 0.0
    while process.poll() is None:
        main = max(main, _peak_mb(process.pid))
        labelling = max([labelling, *map(_peak_mb, _children(process.pid))])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"deesc score ended with exit code {process.returncode}")
    seconds = round(time.perf_counter() - started, 1)
    return {"seconds": seconds, "main_mb": round(main), "labelling_mb": round(labelling)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line of JSON for each length."""
    parser = argparse.ArgumentParser(description="Score archives of growing length.")
    parser.add_argument("--turns", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--model", type=Path, default=default_bundle_path(), help="a bundle")
    parser.add_argument("--stub", action="store_true", help="no model; one process only")
    options = parser.parse_args(arguments)
    if options.stub and options.processes > 1:
        parser.error("--stub is for one process")
    module = "benchmarks.stubbed_score" if options.stub else "deesc_model.cli"
    talks = conversations_of(CORPUS)
    for count in options.turns:
        with tempfile.TemporaryDirectory() as folder:
            path, parts = Path(folder, f"turns.{options.format}"), Path(folder, "parts")
            write_rows(path, turns_of(talks, count))
            command = [sys.executable, "-m", module, "score", path, "--parts", parts]
            command += ["--processes", options.processes, "--model", options.model]
            figures = measure([str(part) for part in command])
            read = 0
            for read, row in enumerate(
                chain.from_iterable(map(_rows, sorted(parts.glob("part-*")))), 1
            ):
                if row["row"] != read - 1:
                    raise SystemExit(f"turn {row['row']} stands where {read - 1} should")
            if read != count:
                raise SystemExit(f"the parts hold {read:,} turns, not {count:,}")
        rate = round(count / figures["seconds"], 1)
        about = {"turns": count, "processes": options.processes, "format": options.format}
        about["stub"] = options.stub
        print(json.dumps({**about, **figures, "turns_per_s": rate}), flush=True)


def _rows(path: Path) -> Iterator[Row]:
    with open_rows(path, path.suffix[1:]) as opened:
        yield from (item.row for item in opened.rows if not isinstance(item, BadRecord))


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:  # it has just ended
        return []


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
