"""The explorer, a page to look at conversations on this machine: `python -m explorer`."""
