"""What our smallest bundle should reach beside the others, and whether it does."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.contenders import FAST, GOALS

PIPELINE: Final = f"{GOALS}-pipeline"
OPENVINO: Final = (f"{GOALS}-openvino-bf16", f"{GOALS}-openvino-int8")
"""The first of them that this machine can run is to be beaten."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bar and what was measured.

    Attributes:
        name: What is measured.
        found: The figure.
        bar: What it should be.
        at_most: Whether the bar is the most that is allowed, or else the least.
    """

    name: str
    found: float
    bar: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.found <= self.bar if self.at_most else self.found >= self.bar

    def row(self) -> dict[str, Any]:
        """Return the goal as it is written to JSON."""
        return {**asdict(self), "found": round(self.found, 2), "met": self.met}


def goals(contenders: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each goal with its figure, as far as both sides of it were measured.

    Args:
        contenders: As `Race.figures` returns them. Ratios here are of their medians.
    """
    measured = {name: each for name, each in contenders.items() if "skipped" not in each}
    if FAST not in measured:
        return []
    ours = measured[FAST]
    found = [
        Goal("first answer, s", ours["cold_s"], 0.35, at_most=True),
        Goal("peak memory, MiB", ours["peak_mb"], 150, at_most=True),
    ]
    if pipeline := measured.get(PIPELINE):
        found += [
            Goal(
                f"throughput, times that of {pipeline['title']}",
                ours["per_s"] / pipeline["per_s"],
                8,
            ),
            Goal(
                f"27 words p50, times faster than {pipeline['title']}",
                pipeline["short_p50_ms"] / ours["short_p50_ms"],
                5,
            ),
            Goal(
                f"first answer, times faster than {pipeline['title']}",
                pipeline["cold_s"] / ours["cold_s"],
                7,
            ),
        ]
    if rival := next((name for name in OPENVINO if name in measured), None):
        faster = ours["per_s"] / measured[rival]["per_s"]
        found.append(Goal(f"throughput, times that of {measured[rival]['title']}", faster, 1))
    return [goal.row() | {"who": ours["title"]} for goal in found]
