"""Parquet in and out: what the columns were they are still."""

import csv
import datetime
import decimal
import io
import json
import os
import subprocess
import sys
import uuid

import pytest
from command import deesc, read_jsonl, write_jsonl

from deesc_model.errors import DeescError, InvalidInputError
from deesc_model.inputs import parse_conversations
from deesc_model.scored_rows import PREDICTION_COLUMNS

pytest.importorskip("typer")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
reader = pytest.importorskip("deesc_model.parquet_reader")

NOON = datetime.datetime(2026, 1, 31, 12, 0, 0, 123456)
COLUMNS = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([1, None, -128], pa.int8()),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float16": pa.array([1.5, None, 0.25], pa.float16()),
    "float32": pa.array([0.1, float("nan"), None], pa.float32()),
    "float64": pa.array([0.1, float("inf"), None]),
    "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]),
    "string": pa.array(["naïve 😡", None, ""]),
    "large_string": pa.array(["a", None, "b"], pa.large_string()),
    "string_view": pa.array(["a", None, "b"], pa.string_view()),
    "binary": pa.array([b"\xff\x00", None, b""]),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "date": pa.array([NOON.date(), None, NOON.date()]),
    "time": pa.array([NOON.time(), None, NOON.time()]),
    "timestamp_ns": pa.array([1_700_000_000_123_456_789, None, 0], pa.timestamp("ns")),
    "timestamp_tz": pa.array([NOON, None, NOON], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([5, None, 7], pa.duration("ms")),
    "category": pa.array(["x", None, "y"]).dictionary_encode(),
    "list": pa.array([[1, None], None, []]),
    "struct": pa.array([{"a": 1, "b": [NOON]}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=1).bytes, None, uuid.UUID(int=2).bytes], pa.binary(16))
    ),
    "null": pa.nulls(3),
}
TABLE = pa.table({"text": ["late", "again", "fine"], **COLUMNS}).replace_schema_metadata(
    {"made by": "a test"}
)


SPARK_COLUMNS = "org.apache.spark.sql.parquet.row.metadata"


def score(*arguments, check=0, **options):
    return deesc("score", *arguments, check=check, **options)


@pytest.fixture
def table(tmp_path):
    pq.write_table(TABLE, tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def test_columns_of_all_types_are_kept(tiny_bundle, tmp_path, table):
    out = tmp_path / "out.parquet"
    score(table, "-o", out, "--model", tiny_bundle)
    found, given = pq.read_table(out), pq.read_table(table)
    assert found.schema.names[: given.num_columns] == given.schema.names
    for name in given.column_names:
        assert found.field(name).equals(given.field(name), check_metadata=True)
        if name == "float32":  # holds what is not equal to itself
            assert repr(found[name].to_pylist()) == repr(given[name].to_pylist())
        else:
            assert found[name].equals(given[name]), name
    assert found.schema.metadata[b"made by"] == b"a test"
    added = found.select(range(given.num_columns, found.num_columns)).to_pylist()
    assert [row["deesc_level"] for row in added] == [1, 2, 0]
    assert [row["deesc_triggers"] for row in added] == [["delay"], ["unresolved"], []]
    plain = read_jsonl(score(table, "--model", tiny_bundle).stdout)
    for row, labels in zip(added, (row["deesc"] for row in plain), strict=True):
        assert row["deesc_uncertain"] is labels["uncertain"]
        assert row["deesc_signals"] == labels["signals"]
        assert row["deesc_model_version"] == labels["model_version"]
        assert row["deesc_frustration"] == labels["frustration"]
        assert [row[f"deesc_level_{k}"] for k in range(5)] == labels["level_scores"]
        scores = {**labels["trigger_scores"], **labels["signal_scores"]}
        assert {name: row[f"deesc_{name}"] for name in scores} == scores


def test_json_lines_get_plain_values(tiny_bundle, table):
    first, second, _ = read_jsonl(score(table, "--model", tiny_bundle).stdout)
    first.pop("deesc")
    assert first == {
        "text": "late",
        "bool": True,
        "int8": 1,
        "uint64": 2**64 - 1,
        "float16": 1.5,
        "float32": pytest.approx(0.1),
        "float64": 0.1,
        "decimal": "1.50",
        "string": "naïve 😡",
        "large_string": "a",
        "string_view": "a",
        "binary": "/wA=",
        "fixed": "YWI=",
        "date": "2026-01-31",
        "time": "12:00:00.123456",
        "timestamp_ns": "2023-11-14 22:13:20.123456789",
        "timestamp_tz": "2026-01-31 13:00:00.123456+0100",
        "duration": 0.005,
        "category": "x",
        "list": [1, None],
        "struct": {"a": 1, "b": ["2026-01-31 12:00:00.123456"]},
        "map": [["k", 1]],
        "uuid": "AAAAAAAAAAAAAAAAAAAAAQ==",
        "null": None,
    }
    second.pop("deesc")
    assert {name for name, value in second.items() if value is not None} == {"text"}


def test_old_times_of_sparks_keep_their_dates(tiny_bundle, tmp_path):
    days = [datetime.datetime(9999, 12, 31), datetime.datetime(1, 1, 1), None]
    table = pa.table(
        {"text": ["late", "fine", "again"], "until": pa.array(days, pa.timestamp("us"))}
    )
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    score(tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "--model", tiny_bundle)
    found = pq.ParquetFile(tmp_path / "out.parquet")
    kinds = [found.schema.column(index) for index in range(2)]
    assert (kinds[1].name, kinds[1].physical_type) == ("until", "INT64")
    assert json.loads(kinds[1].logical_type.to_json())["timeUnit"] == "microseconds"
    assert json.loads(kinds[1].logical_type.to_json())["isAdjustedToUTC"]
    times = found.read().column("until").cast(pa.timestamp("us")).to_pylist()
    assert times == days
    plain = read_jsonl(score(tmp_path / "in.parquet", "--model", tiny_bundle).stdout)
    assert [row["until"] for row in plain] == [
        "9999-12-31 00:00:00.000000Z",
        "0001-01-01 00:00:00.000000Z",
        None,
    ]


def test_categories_of_bytes_are_text(tiny_bundle, tmp_path):
    texts = pa.array([b"late", b"fine", None]).dictionary_encode()
    ids = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=n).bytes for n in (1, 1, 2)], pa.binary(16))
    )
    pq.write_table(pa.table({"text": texts, "conversation_id": ids}), tmp_path / "in.parquet")
    model = ("--on-error", "skip", "--skipped", tmp_path / "bad", "--model", tiny_bundle)
    rows = read_jsonl(score(tmp_path / "in.parquet", *model).stdout)
    assert [row["deesc"]["level"] for row in rows] == [1, 0]
    assert {row["conversation_id"] for row in rows} == {"AAAAAAAAAAAAAAAAAAAAAQ=="}
    assert len(read_jsonl((tmp_path / "bad").read_text())) == 1  # the one that is null


def test_lack_of_memory_is_no_damage(tmp_path, table):
    with pytest.raises(DeescError, match="no memory is left") as caught, reader._readable(table):
        raise pa.lib.ArrowMemoryError("malloc of size 64 failed")
    assert not isinstance(caught.value, InvalidInputError)


def test_conversations_bad_rows_and_row_groups(tiny_bundle, tmp_path):
    rows = [
        {"text": f"late {'the ' * (n % 5)}", "n": n, "conversation_id": n // 3} for n in range(3000)
    ]
    rows[7]["text"] = None
    rows[1500]["text"] = " "
    table, out = pa.Table.from_pylist(rows), tmp_path / "out"
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=700)
    options = ("--on-error", "skip", "--format", "parquet", "--model", tiny_bundle)
    score(tmp_path / "in.parquet", "--parts", out, "--part-rows", 1000, *options)
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    assert [part.num_rows for part in parts] == [1001, 1001, 996]  # 1002 rows, of which a bad one
    found = pa.concat_tables(parts)
    assert found["n"].to_pylist() == [n for n in range(3000) if n not in (7, 1500)]
    aside = [
        row for path in sorted((out / "_skipped").iterdir()) for row in read_jsonl(path.read_text())
    ]
    assert [(row["line"], json.loads(row["row"])["n"]) for row in aside] == [(8, 7), (1501, 1500)]
    lines = write_jsonl(tmp_path / "in.jsonl", rows)
    score(lines, "-o", tmp_path / "plain.parquet", *options)
    plain = pq.read_table(tmp_path / "plain.parquet")
    labels = [name for name in found.column_names if name.startswith("deesc_")]
    assert found.select(labels).equals(plain.select(labels))


def test_categories_inside_lists_and_structures_are_kept(tiny_bundle, tmp_path):
    names = pa.array([f"n{n}" for n in range(150)]).dictionary_encode()
    columns = {
        "list": pa.ListArray.from_arrays(pa.array(range(151), pa.int32()), names),
        "struct": pa.StructArray.from_arrays([names], ["name"]),
    }
    table, out = pa.table({"text": ["late"] * 150, **columns}), tmp_path / "out.parquet"
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=50)
    score(tmp_path / "in.parquet", "-o", out, "--model", tiny_bundle)
    assert pq.read_table(out).select(table.column_names).to_pylist() == table.to_pylist()


def test_a_parquet_output_without_rows_has_its_columns(tiny_bundle, tmp_path, table):
    pq.write_table(TABLE.slice(0, 0), table)
    score(table, "--parts", tmp_path / "out", "--model", tiny_bundle)
    found = pq.read_table(tmp_path / "out")
    assert found.schema.names == [*TABLE.column_names, *PREDICTION_COLUMNS]


def test_columns_of_plain_rows_follow_their_values(tiny_bundle, tmp_path):
    rows = [
        {"text": "late", "int": 1, "float": 1, "mixed": 1, "nested": {"a": [1]}, "flag": True},
        {"text": "fine", "int": None, "float": 0.5, "mixed": "a", "big": 2**63, "flag": None},
        {"text": "", "only in a bad row": 1},
        {"text": "the", "half": "\ud83d", "empty": None},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.parquet"
    score(path, "-o", out, "--on-error", "skip", "--model", tiny_bundle)
    found = pq.read_table(out)
    kept = [name for name in found.column_names if not name.startswith("deesc_")]
    assert found.select(kept).to_pydict() == {
        "text": ["late", "fine", "the"],
        "int": [1, None, None],
        "float": [1.0, 0.5, None],
        "mixed": ["1", "a", None],
        "nested": ['{"a": [1]}', None, None],
        "flag": [True, None, None],
        "big": [None, str(2**63), None],
        "half": [None, None, "\\ud83d"],
        "empty": [None, None, None],
    }
    assert found.schema.field("int").type == pa.int64()
    assert found.schema.field("float").type == pa.float64()
    assert found.schema.field("empty").type == pa.string()


def test_whole_numbers_that_no_other_number_equals_become_text(tiny_bundle, tmp_path):
    rows = [{"text": "late", "id": 2**53 + 1, "large": 2**62}, {"text": "fine", "id": 1.5}]
    path, out = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet"
    score(path, "-o", out, "--model", tiny_bundle)
    found = pq.read_table(out)
    assert found["id"].to_pylist() == [str(2**53 + 1), "1.5"]
    assert found["large"].to_pylist() == [2**62, None]


@pytest.mark.parametrize(
    ("name", "content", "stored"),
    [
        ("in.csv", b"text,caf\xe9\nlate,1\n", "caf\\udce9"),
        ("in.jsonl", b'{"text": "late", "\\ud800": "1"}\n', "\\ud800"),
    ],
)
def test_names_of_columns_are_stored_like_values(tiny_bundle, tmp_path, name, content, stored):
    path, out = tmp_path / name, tmp_path / "out.parquet"
    path.write_bytes(content)
    score(path, "-o", out, "--model", tiny_bundle)
    assert pq.read_table(out).select(["text", stored]).to_pylist() == [
        {"text": "late", stored: "1"}
    ]


def test_what_cannot_be_labelled_is_said_before_parquet_is_made(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}, {"text": ""}])
    result = score(path, "--parts", tmp_path / "out", "--format", "parquet", check=1)
    assert f"{path}: line 2: text is empty" in result.stderr
    assert not (tmp_path / "out").exists()


def test_files_of_one_folder_share_their_columns(tiny_bundle, tmp_path):
    for day, columns in (("1", {"n": [1]}), ("2", {"n": pa.nulls(1), "more": ["x"]})):
        (tmp_path / "in" / f"day={day}").mkdir(parents=True)
        table = pa.table({"text": ["late"], **columns})
        pq.write_table(table, tmp_path / "in" / f"day={day}" / "a.parquet")
    options = ("--part-rows", 1, "--model", tiny_bundle)
    score(tmp_path / "in", "--parts", tmp_path / "out", *options)
    found = pq.read_table(tmp_path / "out")  # as a data set: parts agree on their columns
    assert found.select(["text", "n", "day", "more"]).to_pylist() == [
        {"text": "late", "n": 1, "day": "1", "more": None},
        {"text": "late", "n": None, "day": "2", "more": "x"},
    ]
    pq.write_table(pa.table({"text": ["a"], "n": ["b"]}), tmp_path / "other.parquet")
    given = (tmp_path / "in", tmp_path / "other.parquet", "--parts", tmp_path / "new")
    result = score(*given, *options, check=1)
    assert "the column 'n' is int64 in" in result.stderr
    assert f"but string in {tmp_path / 'other.parquet'}" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("target", ["jsonl", "csv", "parquet"])
def test_folders_whose_names_are_not_utf8_name_fields(tiny_bundle, tmp_path, target):
    folder = tmp_path / os.fsdecode(b"ville=Orl\xe9ans/pa\xffs=1")
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this disk takes no such name")
    pq.write_table(pa.table({"text": ["late"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(folder / "a.parquet")
    out = tmp_path / f"out.{target}"
    score(tmp_path / "ville*", "-o", out, "--model", tiny_bundle)
    if target == "parquet":
        (row,) = pq.read_table(out).to_pylist()
    elif target == "csv":
        (row,) = csv.DictReader(io.StringIO(out.read_text("utf-8")))
    else:
        (row,) = read_jsonl(out.read_text("utf-8"))
    assert (row["ville"], row["pa\\udcffs"]) == ("Orl\\udce9ans", "1")


def test_times_of_a_zone_that_nobody_knows_are_of_utc(tiny_bundle, tmp_path):
    path = tmp_path / "in.parquet"
    times = pa.array([NOON, None], pa.timestamp("us", "Mars/Olympus"))
    columns = {
        "text": ["late", "fine"],
        "at": times,
        "all": pa.array([[NOON], []], pa.list_(times.type)),
    }
    pq.write_table(pa.table(columns), path)
    first, second = read_jsonl(score(path, "--model", tiny_bundle).stdout)
    said = "2026-01-31 12:00:00.123456Z"
    assert (first["at"], first["all"], second["at"]) == (said, [said], None)
    score(path, "-o", tmp_path / "out.parquet", "--model", tiny_bundle)
    assert pq.read_table(tmp_path / "out.parquet")["at"].equals(pq.read_table(path)["at"])


def test_scoring_twice_replaces_what_the_first_run_added(tiny_bundle, tmp_path, table):
    once, twice = tmp_path / "once.parquet", tmp_path / "twice.parquet"
    score(table, "-o", once, "--model", tiny_bundle)
    score(once, "-o", twice, "--model", tiny_bundle)
    assert twice.read_bytes() == once.read_bytes()


def test_labels_of_earlier_runs_do_not_have_to_agree(tiny_bundle, tmp_path, table):
    options = ("--model", tiny_bundle)
    score(table, "-o", tmp_path / "a.parquet", *options)
    score(write_jsonl(tmp_path / "b.jsonl", [{"text": "late"}]), "-o", tmp_path / "b.csv", *options)
    both = (tmp_path / "a.parquet", tmp_path / "b.csv")
    score(*both, "-o", tmp_path / "out.parquet", *options)
    assert pq.read_table(tmp_path / "out.parquet")["deesc_level"].to_pylist() == [1, 2, 0, 1]


def test_a_field_without_a_value_takes_the_type_that_it_has_elsewhere(tiny_bundle, tmp_path):
    pq.write_table(pa.table({"text": ["late"], "n": [7]}), tmp_path / "a.parquet")
    plain = write_jsonl(tmp_path / "b.jsonl", [{"text": "fine", "n": None, "m": None}])
    out = tmp_path / "out.parquet"
    score(tmp_path / "a.parquet", plain, "-o", out, "--model", tiny_bundle)
    found = pq.read_table(out).select(["n", "m"])
    assert found.to_pylist() == [{"n": 7, "m": None}, {"n": None, "m": None}]
    assert (found.schema.field("n").type, found.schema.field("m").type) == (pa.int64(), pa.string())


def test_what_spark_says_of_the_columns_is_not_said_of_more(tiny_bundle, tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    spark = {"org.apache.spark.version": "4.0.0", SPARK_COLUMNS: '{"fields": ["text"]}'}
    pq.write_table(pa.table({"text": ["late"]}).replace_schema_metadata(spark), path)
    score(path, "-o", out, "--model", tiny_bundle)
    assert pq.read_schema(out).metadata == {b"org.apache.spark.version": b"4.0.0"}


def test_categories_take_no_more_room_than_they_had(tiny_bundle, tmp_path):
    names = [f"{number:0100}" for number in range(3000)]
    mixed = [names[number * 7 % 3000] for number in range(3000)]
    table = pa.table({"text": ["late"] * 3000, "name": pa.array(mixed).dictionary_encode()})
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, path)
    with reader.open_parquet(path, {}) as (rows, _, _):
        assert max(row.size for row in rows) < 300
    score(path, "-o", out, "--model", tiny_bundle)
    found = pq.ParquetFile(out)
    assert (found.num_row_groups, found.schema_arrow.field("name").type) == (
        1,
        table.schema.field("name").type,
    )
    assert found.read()["name"].to_pylist() == mixed
    assert out.stat().st_size < 2 * path.stat().st_size


def test_text_that_was_written_as_bytes_is_text(tiny_bundle, tmp_path):
    path, aside = tmp_path / "in.parquet", tmp_path / "aside"
    pq.write_table(pa.table({"text": [b"late", b"caf\xe9"], "speaker": [b"agent", None]}), path)
    options = ("--on-error", "skip", "--skipped", aside, "--model", tiny_bundle)
    (row,) = read_jsonl(score(path, *options).stdout)
    assert (row["text"], row["speaker"], row["deesc"]["level"]) == ("late", "agent", 1)
    assert "the byte 0xE9 at character 3: not UTF-8" in aside.read_text()


def test_show_reads_parquet(tiny_bundle, table):
    shown = deesc("show", table, "--model", tiny_bundle, check=0).stdout
    assert [line.split("\t")[-1] for line in shown.splitlines()] == ["late", "again", "fine"]


def test_what_was_sent_is_read_as_its_file_would_be(table):
    (conversation,) = parse_conversations("sent.parquet", table.read_bytes())
    assert [turn.text for turn in conversation.turns] == ["late", "again", "fine"]
    with pytest.raises(InvalidInputError, match=r"sent\.parquet: damaged, or no Parquet file"):
        parse_conversations("sent.parquet", b"PAR1")


def damaged(raw):
    middle = len(raw) // 3
    return (
        raw[:middle] + bytes(byte ^ 0xFF for byte in raw[middle : middle + 64]) + raw[middle + 64 :]
    )


@pytest.mark.parametrize(
    "spoil", [lambda raw: b"", lambda raw: b"text\nlate\n", lambda raw: raw[:-20], damaged]
)
@pytest.mark.parametrize("target", ["jsonl", "parquet"])
def test_a_damaged_file_is_named_and_leaves_nothing(tiny_bundle, tmp_path, spoil, target):
    path, out = tmp_path / "in.parquet", tmp_path / f"out.{target}"
    rows = [{"text": f"late {n * 7919 % 10007}"} for n in range(5000)]
    pq.write_table(pa.Table.from_pylist(rows), path, write_page_checksum=True)
    path.write_bytes(spoil(path.read_bytes()))
    result = score(path, "-o", out, "--model", tiny_bundle, check=1)
    assert f"error: {path}: damaged, or no Parquet file" in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"words": ["late"]}, "no column named text among words"),
        ({"text": [5]}, "line 1: text must be a string, not int"),
        ({"text": ["late"], "speaker": ["robot"]}, "line 1: speaker must be one of"),
    ],
)
def test_a_bad_table_is_said(tiny_bundle, tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    result = score(tmp_path / "in.parquet", "--model", tiny_bundle, check=1)
    assert f"in.parquet: {said}" in result.stderr


def test_pipes_and_standard_output_take_no_parquet(tiny_bundle, tmp_path, table):
    result = deesc("score", table, "--format", "parquet", check=2)
    assert "Parquet is no text; name a file for it with -o" in result.stderr
    options = ("--model", tiny_bundle)
    result = score("-", "--input-format", "parquet", *options, text="", check=1)
    assert "Parquet is read from files only" in result.stderr
    out = tmp_path / "o.parquet"
    result = score("-", "-o", out, *options, text='{"text": "late"}\n', check=1)
    assert "can be read only once, but Parquet needs to know all columns first" in result.stderr


@pytest.mark.parametrize("way", ["in", "out"])
def test_without_pyarrow_the_command_for_it_is_named(tiny_bundle, tmp_path, table, way):
    rows = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    options = {"in": [table], "out": [rows, "-o", tmp_path / "o.parquet"]}[way]
    code = "import sys; sys.modules['pyarrow'] = None; from deesc_model.cli import main; main()"
    command = [sys.executable, "-c", code, "score", *options, "--model", tiny_bundle]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert result.returncode == 1
    assert "in the folder of deesc: pip install '.[parquet]'" in result.stderr
    assert "Traceback" not in result.stderr
