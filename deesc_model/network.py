"""The exported network on onnxruntime: encoded windows in, logits out."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.errors import BundleError
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.scoring import LEVEL_HEADS, Logits
from deesc_model.types import Turn

OUTPUT_NAMES: Final = ("level_logits", "trigger_logits", "signal_logits")
"""Names of the model's outputs, float32 of shape (batch, labels)."""

PASS_TOKENS: Final = 512
"""Most tokens of one forward pass, padding included, unless a single window has more. Memory
grows with them; speed does not, once the matrices are as large as this."""


PASS_COST: Final = 17
"""What one more forward pass costs beside its tokens, in tokens, roughly: padding that wastes more
is not worth the pass it saves."""


class Network:
    """An onnxruntime session that may be shared by threads.

    Attributes:
        threads: Threads of one forward pass.
    """

    def __init__(self, path: Path, encoder: InputEncoder, *, threads: int | None = None) -> None:
        """Open `model.onnx`.

        Args:
            path: The ONNX file.
            encoder: Collates windows into the model's inputs.
            threads: Threads of one forward pass, 1 or more; None takes the CPUs that this
                process may use.

        Raises:
            BundleError: onnxruntime cannot open the file.
            ValueError: `threads` is below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        self._path = path
        options = ort.SessionOptions()
        self.threads = threads or available_cpus()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A plan of the memory for each shape seen: hardly two batches have the same.
        options.enable_mem_pattern = False
        # Between two calls the CPU belongs to others: a server's event loop, another process.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(
                path,
                options,
                providers=["CPUExecutionProvider"],
                # onnxruntime's fused kernel is slower here than the two that it replaces.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise BundleError(f"{path} cannot be opened by onnxruntime: {error}") from None
        self._encoder = encoder

    def check(self, level_head: str) -> None:
        """Run one window through the network, so that a wrong file fails at once and by name.

        Raises:
            BundleError: The outputs are missing, not as wide as the vocabulary, or not finite.
        """
        try:
            found = self.logits(
                self._encoder.encode(Turn("customer", "hello"), [Turn("agent", "hello")])
            )
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise BundleError(f"{self._path} does not run: {error}") from None
        wanted = (LEVEL_HEADS[level_head], len(TRIGGERS), len(SIGNALS))
        for name, values, width in zip(
            OUTPUT_NAMES, (found.level, found.triggers, found.signals), wanted, strict=True
        ):
            if values.shape != (1, width) or not np.isfinite(values).all():
                raise BundleError(
                    f"{self._path}: {name} must be {width} finite numbers, not an array of shape"
                    f" {values.shape[1:]} with {np.count_nonzero(~np.isfinite(values))} that are"
                    " not finite"
                )

    def logits(self, windows: Sequence[EncodedInput], *, batch_size: int = 32) -> Logits:
        """Run the network, sorted by length to waste no padding.

        Args:
            windows: At least one.
            batch_size: Most windows in one forward pass, 1 or more. A pass of long ones takes
                fewer, see `PASS_TOKENS`, and so does one of unlike lengths, see `PASS_COST`.

        Returns:
            One row of logits per window, in the order given.

        Raises:
            ValueError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
        lengths = [len(window.ids) for window in windows]
        order = sorted(range(len(windows)), key=lengths.__getitem__)
        parts = [
            self._session.run(OUTPUT_NAMES, self._encoder.collate([windows[i] for i in places]))
            for places in _passes(order, lengths, batch_size)
        ]
        if len(windows) == 1:
            return Logits(*parts[0])
        back = np.argsort(order)
        level, triggers, signals = (
            np.concatenate([part[k] for part in parts])[back] for k in range(3)
        )
        return Logits(level, triggers, signals)


def _passes(
    order: Sequence[int], lengths: Sequence[int], batch_size: int
) -> Iterator[Sequence[int]]:
    """Cut windows in order of length into forward passes."""
    start = 0
    for end, index in enumerate(order[1:], start=1):
        # A newcomer is the longest, so all before it are padded to its length.
        count, longer = end - start, lengths[index] - lengths[order[end - 1]]
        full = count == batch_size or (count + 1) * lengths[index] > PASS_TOKENS
        if full or count * longer > PASS_COST:
            yield order[start:end]
            start = end
    yield order[start:]


def available_cpus(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Return how many CPUs this process may use; onnxruntime alone would count the host's.

    The limit of a container or a service is a quota of its cgroup or of one above it, in version 2
    `cpu.max`: microseconds of CPU and the period they are for. A part of a CPU counts as a whole
    one.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _from_root(cgroups, own):
        # No such file, or "max": no limit.
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            cpus = max(1, min(cpus, math.ceil(int(quota) / int(period))))
    return cpus


def _from_root(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of the cgroups that a process is in, the widest first."""
    folders = [cgroups]
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            if line.startswith("0::/") and ".." not in line:  # as where only the root is seen
                folders += accumulate(line[4:].split("/"), Path.__truediv__, initial=cgroups)
    return folders
