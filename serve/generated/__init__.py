"""Stubs written by `make proto`; do not edit."""
