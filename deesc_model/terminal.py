"""What `deesc` prints of predictions: a table, lines for a pipe, JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deesc_model.companion import Step
from deesc_model.comparison import SentimentComparison, compare_sentiment
from deesc_model.files import utf8_stdout
from deesc_model.labels import Level
from deesc_model.transcripts import Conversation
from deesc_model.types import Prediction, Turn

STYLES = {
    Level.CALM: "green",
    Level.CONCERNED: "yellow",
    Level.FRUSTRATED: "dark_orange",
    Level.ANGRY: "red",
    Level.ABUSIVE: "bold white on red",
}


class Output(StrEnum):
    """How predictions are printed."""

    AUTO = "auto"
    TABLE = "table"
    LINES = "lines"
    JSON = "json"


def print_predictions(
    turns: Sequence[Turn], predictions: Sequence[Prediction], output: Output
) -> None:
    """Print one row a turn."""
    if output is Output.AUTO:
        output = Output.TABLE if sys.stdout and sys.stdout.isatty() else Output.LINES
    utf8_stdout()
    if output is Output.TABLE:
        Console().print(prediction_table(turns, predictions))
        return
    for turn, prediction in zip(turns, predictions, strict=True):
        if output is Output.JSON:
            row = {"speaker": turn.speaker, "text": turn.text, **prediction.to_dict()}
            print(json.dumps(row, ensure_ascii=False))
        else:
            print(_line(turn, prediction))


def print_conversation(
    conversation: Conversation, predictions: Sequence[Prediction], output: Output
) -> None:
    """Print one row a turn and, unless as JSON, the vendor's sentiment beside the levels."""
    print_predictions(conversation.turns, predictions, output)
    comparison = compare_sentiment(conversation.spoken, predictions)
    if comparison is not None and output is not Output.JSON:
        print("\n" + "\n".join(comparison_lines(comparison)))


def comparison_lines(comparison: SentimentComparison) -> list[str]:
    """Return a comparison as lines of text, a table first."""
    lines = ["the customer's turns: the vendor's sentiment, and how many turns have which level"]
    lines.append(" " * 10 + "".join(f"{level.label:>12}" for level in Level))
    for name, counts in comparison.counts.items():
        lines.append(f"{name:10}" + "".join(f"{count:12}" for count in counts))
    for turns, said in (
        (comparison.only_model, "frustrated or worse, but not negative to the vendor"),
        (comparison.only_vendor, "calm, but negative to the vendor"),
    ):
        if turns:
            lines.append(f"{said}: turn {', '.join(map(str, turns))}")
    return lines


def _line(turn: Turn, prediction: Prediction) -> str:
    labels = " ".join(
        f"{name}={scores[name]:.2f}"
        for names, scores in (
            (prediction.triggers, prediction.trigger_scores),
            (prediction.signals, prediction.signal_scores),
        )
        for name in names
    )
    doubt = "?" if prediction.uncertain else ""
    level = f"{int(prediction.level)} {prediction.level.label}{doubt} {prediction.frustration:.2f}"
    return "\t".join((turn.speaker, level, labels or "-", " ".join(turn.text.split())))


def prediction_table(turns: Sequence[Turn], predictions: Sequence[Prediction]) -> Table:
    """Return the table that a terminal shows, one row a turn."""
    table = Table(show_lines=False, pad_edge=False, padding=(0, 1), expand=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("speaker")
    table.add_column("utterance", ratio=1, min_width=24)
    table.add_column("frustration", no_wrap=True)
    table.add_column("triggers")
    table.add_column("signals", style="bold")
    for number, (turn, prediction) in enumerate(zip(turns, predictions, strict=True), start=1):
        style = STYLES[prediction.level]
        bar = "█" * (int(prediction.level) + 1) + "░" * (4 - int(prediction.level))
        doubt = "?" if prediction.uncertain else ""
        level = Text(f"{bar} {int(prediction.level)} {prediction.level.label}{doubt}", style)
        table.add_row(
            str(number),
            Text(turn.speaker, "cyan" if turn.speaker == "agent" else ""),
            Text(turn.text),
            level,
            _scored(prediction.triggers, prediction.trigger_scores),
            _scored(prediction.signals, prediction.signal_scores),
        )
    return table


def _scored(names: Sequence[str], scores: Mapping[str, float]) -> str:
    return "\n".join(f"{name} {scores[name]:.2f}" for name in names)


def step_lines(step: Step) -> list[str]:
    """Return what `deesc watch` prints of one turn: the turn, then what is new about it."""
    state, decision = step.state, step.decision
    mark = "!" if decision.alert else " "
    said = " ".join(step.turn.text.split())
    lines = [
        f"{state.turn:>3} risk {state.risk:.2f} {mark}{decision.action.label:12}"
        f" {step.turn.speaker}: {said}"
    ]
    lines += [
        f"      this turn {remark.what}; better: {remark.technique.name}" for remark in step.remarks
    ]
    if decision.alert:
        lines.append(f"      because: {decision.reason}")
        for suggestion in step.advice.suggestions:
            names = ", ".join(technique.name for technique in suggestion.techniques)
            lines.append(f"      {suggestion.trigger}: {names}")
            lines += [f"        say: {text}" for text in suggestion.say]
            lines.append(f"        not: {'; '.join(suggestion.avoid)}")
        lines += [f"      [ ] {item}" for item in step.advice.checklist]
    return lines
