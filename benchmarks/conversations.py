"""What following a conversation costs beside labelling it.

    python -m benchmarks.conversations --conversations 50

Each turn is labelled, then given to the monitor, and to the companion that adds policy and
playbook; the figures are medians over all turns, and ratios to the labelling of the same turns.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from deesc_model import ConversationCompanion, ConversationMonitor, EscalationClassifier, Turn
from deesc_model.records import Record, read_records

CORPUS: Final = Path(__file__).parents[1] / "data" / "corpus"


def conversations_of(corpus: Path, count: int) -> list[list[Turn]]:
    """Return conversations of four or more turns of our corpus; the same ones each time."""
    found = []
    for path in sorted(corpus.glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            rows = read_records(stream, "jsonl", context_turns=0)
            records = [row for row in rows if isinstance(row, Record)]
        for _, members in groupby(records, key=lambda record: record.row["conversation_id"]):
            turns = [record.turn for record in members]
            if len(turns) >= 4:
                found.append(turns)
    return random.Random(4).sample(found, count)  # noqa: S311 - no secret


def measure(conversations: Sequence[Sequence[Turn]]) -> dict[str, float]:
    """Return medians in microseconds a turn, and what monitor and companion cost in per cent."""
    classifier = EscalationClassifier.from_pretrained()
    spent: dict[str, list[float]] = {"predict": [], "monitor": [], "companion": []}

    def timed(kind: str, function: Callable[..., Any], *arguments: object) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        spent[kind].append((time.perf_counter() - started) * 1e6)
        return result

    for turns in conversations:
        monitor, companion = ConversationMonitor(), ConversationCompanion()
        for position, turn in enumerate(turns):
            prediction = timed("predict", classifier.predict, turn, turns[:position])
            timed("monitor", monitor.update, turn, prediction)
            timed("companion", companion.update, turn, prediction)
    medians = {kind: statistics.median(values) for kind, values in spent.items()}
    return {
        "turns": len(spent["predict"]),
        **{f"{kind}_us": round(value, 1) for kind, value in medians.items()},
        "monitor_percent": round(100 * medians["monitor"] / medians["predict"], 2),
        "companion_percent": round(100 * medians["companion"] / medians["predict"], 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Time the following of conversations.")
    parser.add_argument("--conversations", type=int, default=50)
    options = parser.parse_args(arguments)
    print(json.dumps(measure(conversations_of(CORPUS, options.conversations)), indent=1))


if __name__ == "__main__":
    main()
