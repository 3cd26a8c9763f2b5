"""The page of one verdict of the gate: champion against challenger."""

from collections.abc import Mapping, Sequence
from typing import Any

from deesc_model.report.markup import escaped, table
from training.dataset import DataVersion
from training.figures.gains import gains_picture
from training.figures.picture import close_pictures
from training.pages.parts import (
    DATA_SETS,
    Section,
    data_table,
    document,
    errors,
    figure,
    headline,
    shares_in_words,
)
from training.report_tables import interval_words


def gate_page(verdict: Mapping[str, Any]) -> str:
    """Return one HTML page that needs no other file and asks nobody for anything.

    Args:
        verdict: What `training.gate.judge` returned.
    """
    sections: list[Section] = [("verdict", "Verdict", [_sentence(verdict), _checks(verdict)])]
    for name, part in verdict["parts"].items():
        measured = (
            f"{part['rows']:,} test utterances of {part['conversations']:,} conversations;"
            f" {interval_words(part)}"
        )
        found = [
            f"<p>{measured}.</p>",
            shares_in_words(part, verdict["other"]),
            headline(part, ("challenger", verdict["other"]), f"Challenger and {verdict['other']}"),
            *_gains(name, verdict["checks"]),
        ]
        lost = verdict["newly_wrong"].get(name)
        if lost and lost["text"]:
            caption = "Levels that the champion has right and the challenger has not, worst first"
            found += ["<h3>No longer right</h3>", errors(lost, caption)]
        sections.append((name, DATA_SETS[name], found))
    versions = [DataVersion(**version) for version in verdict["data"]]
    sections.append(("data", "Data", [data_table(versions)]))
    passed = "passed" if verdict["passed"] else "refused"
    against = verdict["champion"] or "no champion: absolute bounds alone decide"
    intro = f"{escaped(verdict['challenger'])} against {escaped(against)}."
    return document(f"The challenger is {passed}", intro, sections)


def _sentence(verdict: Mapping[str, Any]) -> str:
    failed = sum(not check["passed"] for check in verdict["checks"])
    said = f"{failed} of {len(verdict['checks'])} checks failed." if failed else "No check failed."
    public = "" if verdict["public_texts"] else " There were no public texts, or too few to judge."
    return f"<p>{said}{public}</p>"


def _checks(verdict: Mapping[str, Any]) -> str:
    """Show what failed; what passed opens with a click."""
    failed = [check for check in verdict["checks"] if not check["passed"]]
    passed = [check for check in verdict["checks"] if check["passed"]]
    shown = _check_table("Failed; in brackets 95 % intervals", failed) if failed else ""
    if passed:
        inner = _check_table("Not failed; in brackets 95 % intervals", passed)
        summary = f"<summary>The {len(passed)} that did not fail</summary>"
        shown += f"<details>{summary}{inner}</details>"
    return shown


def _check_table(caption: str, checks: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for check in checks:
        state = "passed" if check["passed"] else "failed"
        judged = "–" if check["passed"] and check["value"] is None else state
        count = isinstance(check["value"], int)
        form = "," if count else "+.4f" if check["at_least"] else ".4f"
        asked = f"at {'least' if check['at_least'] else 'most'} {check['bound']:{form}}"
        found = "not measured" if check["value"] is None else f"{check['value']:{form}}"
        interval = (
            f' <span class="interval">({check["low"]:{form}} to {check["high"]:{form}})</span>'
            if check["low"] is not None
            else ""
        )
        note = f'<span class="words">{escaped(check["note"])}</span>' if check["note"] else ""
        rows.append(
            f'<tr><th scope="row">{escaped(check["name"])}{note}</th><td class="{state}">{judged}'
            f"</td><td>{found}{interval}</td><td>{asked}</td></tr>"
        )
    return table(caption, ("check", "", "found", "asked"), rows)


def _gains(part: str, checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw the overall figures and the slices of one data set apart; they have other bounds."""
    paired = [
        check for check in checks if check["low"] is not None and check["name"].startswith(part)
    ]
    groups = {
        "overall": "What the challenger gained overall",
        "slices": "What it gained on parts of the utterances",
    }
    shown = []
    for group, title in groups.items():
        chosen = [
            check for check in paired if (", overall: " in check["name"]) == (group == "overall")
        ]
        if chosen:
            picture = gains_picture(chosen, f"{part}-{group}", title)
            shown.append(figure(picture, picture.name))
            close_pictures([picture])
    return shown
