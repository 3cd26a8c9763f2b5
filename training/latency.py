"""How much longer one bundle takes than another, measured in turns."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deesc_model import EscalationClassifier, Turn
from training.corpus import Utterance


def latency_ratio(challenger: Path, champion: Path, rows: Sequence[Utterance]) -> float:
    """Return the median over utterances of challenger's time divided by champion's.

    The two take turns on each utterance, and take turns at going first, so that a busy machine
    slows both. One thread, one utterance a call, with context.
    """
    pair = [
        EscalationClassifier.from_pretrained(path, threads=1) for path in (challenger, champion)
    ]
    for model in pair:
        _seconds(model, rows[0])
    ratios = []
    for number, row in enumerate(rows):
        first = number % 2
        times = {first: _seconds(pair[first], row)}
        times[1 - first] = _seconds(pair[1 - first], row)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def _seconds(model: EscalationClassifier, row: Utterance) -> float:
    start = time.perf_counter()
    model.predict(Turn(row.speaker, row.text), row.context)
    return time.perf_counter() - start
