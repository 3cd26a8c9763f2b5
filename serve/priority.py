"""Which threads give way: the model's, to the event loop that accepts, refuses and answers."""

import contextlib
import os
import sys
import threading
from typing import Final

NICENESS: Final = 10
"""Steps below the event loop. The model keeps all time that calls do not need."""


def yield_to_calls() -> None:
    """Lower the priority of this thread and of those that it starts, for good.

    A forward pass takes every core for as long as it lasts. Without this, calls that come
    meanwhile wait for the kernel to interrupt it, and pile up in memory when there are many.
    Linux keeps a priority for each thread; elsewhere, and where a sandbox forbids it, this does
    nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
