"""The benchmark of the server runs, writes its figures, and loses no reply while at it."""

import json

import pytest

from benchmarks.section import marks
from benchmarks.serve import main


@pytest.mark.parametrize(
    ("scenario", "row"),
    [("latency", "one client, p50 above"), ("handover", "replies lost | 0 | at most 0 | met |")],
)
def test_a_scenario_writes_its_figures_and_its_section(scenario, row, tmp_path, capsys):
    document = tmp_path / "README.md"
    document.write_text("\n".join(marks("make bench-serve")), encoding="utf-8")
    main([scenario, "--seconds", "0.5", "--clients", "2", "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "serve.json").read_text(encoding="utf-8"))
    if scenario == "latency":
        assert 0 < figures[scenario]["bare_call_p50_ms"] < figures[scenario]["call_p50_ms"]
    else:
        assert figures[scenario]["answered"] > 0
    assert row in document.read_text(encoding="utf-8")
    assert row in capsys.readouterr().out
