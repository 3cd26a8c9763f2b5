"""The counts of the data card, as Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from training.corpus import ARCS, CHANNELS, SPLITS, Utterance


def describe(rows: Sequence[Utterance]) -> str:
    """Return the tables of `data/README.md`."""
    customers = [row for row in rows if row.speaker == "customer"]
    agents = [row for row in rows if row.speaker == "agent"]
    words = sum(len(row.text.split()) for row in rows) / max(len(rows), 1)
    conversations = [row for row in rows if row.turn == 0]
    parts = [
        f"{len(conversations):,} conversations, {len(rows):,} turns ({len(customers):,} by"
        f" customers, {len(agents):,} by agents), {words:.1f} words a turn on average.",
        _by_split(
            "customer turns by level", customers, [str(int(level)) for level in Level], _levels
        ),
        _by_split("customer turns by trigger", customers, TRIGGERS, lambda row: row.triggers),
        _by_split("customer turns by signal", customers, SIGNALS, lambda row: row.signals),
        _by_split("agent turns by trigger", agents, TRIGGERS, lambda row: row.triggers),
        _by_split("conversations by channel", conversations, CHANNELS, lambda row: (row.channel,)),
        _by_split("conversations by arc", conversations, ARCS, lambda row: (row.arc,)),
        _by_split(
            "conversations by domain",
            conversations,
            sorted({row.domain for row in rows}),
            lambda row: (row.domain,),
        ),
    ]
    return "\n\n".join(parts)


def _levels(row: Utterance) -> Iterable[str]:
    return (str(row.level),)


def _by_split(
    title: str,
    rows: Sequence[Utterance],
    names: Sequence[str],
    key: Callable[[Utterance], Iterable[str]],
) -> str:
    """Count rows by what `key` gives, one column for each split."""
    counts = {
        split: Counter(name for row in rows if row.split == split for name in key(row))
        for split in SPLITS
    }
    lines = [f"| {title} | {' | '.join(SPLITS)} | all |", f"| --- |{' ---: |' * (len(SPLITS) + 1)}"]
    for name in names:
        numbers = [counts[split][name] for split in SPLITS]
        lines.append(f"| {name} | {' | '.join(f'{n:,}' for n in numbers)} | {sum(numbers):,} |")
    return "\n".join(lines)
