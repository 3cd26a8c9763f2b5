"""What the long commands say while they work."""

import logging
import warnings


def show_progress(level: int = logging.INFO) -> None:
    """Print what the package logs from a level on, each line with its time."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("training").setLevel(level)
    # Hints for people at a notebook, about things that are meant here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.|sklearn\.")
