"""Make the champion before the current one the champion again.

python -m training.rollback --reason "misses threats in mails"
"""

import argparse
import sys
from collections.abc import Sequence

from deesc_model.errors import DeescError
from training.config import add_config_arguments, read_config
from training.registry import Registry


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.rollback", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--reason", required=True)
    parser.add_argument("--author", help="the user of this machine, if not given")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        registry = Registry(read_config(options.config, options.overrides))
        move = registry.rollback(options.reason, options.author)
    except DeescError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"champion: version {move.after}, before {move.before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
