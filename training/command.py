"""What all commands have: a parser that shows their docstring, and an error as one line."""

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from deesc_model.errors import DeescError

P = ParamSpec("P")


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of ``python -m training.NAME`` that shows a docstring as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m training.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def errors_in_one_line(main: Callable[P, int]) -> Callable[P, int]:
    """Make a command print what is wrong to standard error and return 1, without a traceback."""

    @wraps(main)
    def command(*arguments: P.args, **options: P.kwargs) -> int:
        try:
            return main(*arguments, **options)
        except (DeescError, OSError) as error:
            print(error, file=sys.stderr)
            return 1

    return command
