"""One file of rows and the one of skipped rows beside it: neither is there without the other."""

import pytest
from courses import prediction
from store import running_store

from deesc_model import StoreError, Turn
from deesc_model.archive.outputs import open_file
from deesc_model.archive.places import place
from deesc_model.archive.windows import Window
from deesc_model.records import BadRecord, Record

WINDOW = Window("a.jsonl", 1, [], 0, 0)


def write_rows(out, aside):
    row = {"text": "late"}
    with open_file(place(out), "jsonl", [], place(aside)) as output:
        output.write(0, WINDOW, Record(1, row, Turn("customer", "late"), (), True, 4), prediction())
        output.spoil(0, WINDOW, BadRecord.of_row(2, {"text": ""}, "text is empty"))


def test_without_the_file_there_are_no_skipped_rows():
    with running_store() as bucket:
        write_rows("s3://bucket/out/a.jsonl", "s3://bucket/out/skipped.jsonl")
        assert bucket.contents("out").keys() == {"a.jsonl", "skipped.jsonl"}
        with pytest.raises(StoreError):
            write_rows("s3://nowhere/a.jsonl", "s3://bucket/failed/skipped.jsonl")
        assert bucket.contents("failed") == {}
