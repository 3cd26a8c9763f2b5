"""The end of standard input, which tells a server that whoever started it is gone."""

import contextlib
import os
import selectors
import stat
import sys

from serve.errors import ConfigError


def check() -> None:
    """Raise an error unless the end of standard input can be waited for.

    Raises:
        ConfigError: It cannot.
    """
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
    except (OSError, ValueError):
        raise ConfigError(
            "--stop-with-stdin waits for the end of a pipe, and standard input is a file or closed"
        ) from None


def tell_serving() -> None:
    """Tell the parent of workers, who is at the other end of a socket, that this one serves."""
    descriptor = sys.stdin.fileno()
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        with contextlib.suppress(OSError):  # it is gone: the end of input will tell
            os.write(descriptor, b"\n")


def is_over() -> bool:
    """Read what there is, which means nothing, and return whether it is the end.

    It waits unless there is something, or the end.
    """
    try:
        return not os.read(sys.stdin.fileno(), 4096)
    except OSError:  # a terminal that is gone
        return True
