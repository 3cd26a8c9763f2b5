"""Significant losses among many paired figures, at one level for all of them together."""

from collections.abc import Mapping

import numpy as np

from deesc_model.scoring import FloatArray


def significant_losses(gains: Mapping[str, FloatArray], significance: float) -> dict[str, float]:
    """Return the smallest gain of each figure that is no significant loss.

    Every figure's bootstrap gains are centred and divided by their standard deviation; the
    smallest of them in each resample tells how low chance alone takes the worst of all figures.
    That keeps the level for all figures together and, since resamples are shared, knows that
    figures move together; a Bonferroni level would lie beyond what 1,000 resamples can show.
    Source: Westfall and Young, "Resampling-Based Multiple Testing", 1993, the one-step max-T.

    Args:
        gains: By figure, challenger minus champion, larger is better: position 0 is the figure,
            the others are replicates of shared resamples. Undefined figures are left out.
        significance: Chance 0–1 of any false alarm.

    Returns:
        By figure the bound, at most 0; a gain below it is a significant loss.
    """
    defined = {name: values for name, values in gains.items() if not np.isnan(values[0])}
    if not defined:
        return {}
    spreads = {name: float(np.nanstd(values[1:])) for name, values in defined.items()}
    centred = [
        np.nan_to_num((values[1:] - np.nanmean(values[1:])) / spreads[name])
        for name, values in defined.items()
        if spreads[name] > 0
    ]
    critical = float(np.quantile(np.min(centred, axis=0), significance)) if centred else 0.0
    return {name: min(0.0, critical * spreads[name]) for name in defined}
