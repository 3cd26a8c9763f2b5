"""What says which version this is, and which model is used."""

import json
from typing import Annotated

import typer

from deesc_model import __version__
from deesc_model.bundle import Bundle
from deesc_model.classifier import EscalationClassifier
from deesc_model.commands.options import ModelOption
from deesc_model.terminal import Output


def _say_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def version(
    wanted: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def info(
    model: ModelOption = None,
    output: Annotated[
        Output, typer.Option("--format", help="json, or anything else for lines.")
    ] = Output.AUTO,
) -> None:
    """Say which model is used, where it comes from and how good it is."""
    bundle = EscalationClassifier.from_pretrained(model).bundle
    manifest = bundle.manifest
    about: dict[str, object] = {
        "deesc": __version__,
        "model": manifest.model_version,
        "folder": str(bundle.path),
        "base model": manifest.base_model,
        "weights": manifest.weights,
        "trained in run": manifest.training_run,
        "commit": manifest.git_commit,
        "data sha256": manifest.data_fingerprint,
        "longest input": f"{bundle.config.encoder.max_length} tokens, then windows",
        "context": f"{bundle.config.encoder.context_turns} turns, at most"
        f" {bundle.config.encoder.context_tokens} tokens",
    }
    if output is Output.JSON:
        print(json.dumps({**about, "metrics": bundle.metrics.get("metrics", {})}, indent=1))
        return
    for name, value in about.items():
        print(f"{name:16}{value}")
    for name in ("level_macro_f1", "level_qwk", "trigger_macro_f1", "signal_macro_f1"):
        if figure := _figure(bundle, name):
            print(f"{name:16} {figure} on its test split")


def _figure(bundle: Bundle, name: str) -> str | None:
    """Return a figure of metrics.json in words; None if it holds no such one."""
    try:
        figure = bundle.metrics["metrics"][name]
        return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
    except (KeyError, TypeError, ValueError, OverflowError):  # whoever made the bundle wrote it
        return None
