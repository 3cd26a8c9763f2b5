"""Make a registered version the champion by hand.

python -m training.promote 7 --reason "fewer false alarms in the pilot"
"""

import sys
from collections.abc import Sequence

from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.registry import Registry


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("promote", __doc__)
    parser.add_argument("version", help="number of the registered version")
    parser.add_argument("--reason", required=True)
    parser.add_argument("--author", help="the user of this machine, if not given")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    registry = Registry(read_config(options.config, options.overrides))
    move = registry.promote(options.version, options.reason, options.author)
    print(f"champion: version {move.after}, before {move.before or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
