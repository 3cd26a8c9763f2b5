"""The processes that train one model together: one alone, or those that torchrun started.

They share the fine-tuning. All else is for the first: run folder, checkpoint, MLflow, bundle.
"""

import os

import torch
from accelerate import PartialState
from torch import distributed

from deesc_model.network import available_cpus


def process_count() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that writes; one alone is."""
    return int(os.environ.get("RANK", "0")) == 0


def cpus_of_each() -> int:
    """Return the CPUs of one process when all on this machine work at once, 1 or more."""
    return max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def wait_for_all() -> None:
    """Wait until every process has come this far; one alone goes on at once."""
    if process_count() > 1:
        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


def part_ways() -> None:
    """Wait for all a last time: from here on each process may end when it likes."""
    wait_for_all()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def lost_another(error: RuntimeError) -> bool:
    """Return whether an error means that another process ended while this one waited for it."""
    # What gloo raises has no type of its own, but names the file of gloo that raised it.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
