"""The command `deesc`. Exit codes: 0 done, 1 something could not be labelled, 2 wrong usage."""

from deesc_model.errors import DeescError, MissingExtraError

try:
    import typer

    from deesc_model.commands.about import info, version
    from deesc_model.commands.conversations import classify, report, show, watch, why
    from deesc_model.commands.notes import note
    from deesc_model.commands.scoring import score
except ModuleNotFoundError as error:
    raise SystemExit(str(MissingExtraError(f"the package {error.name}", "cli"))) from None

app = typer.Typer(
    help="Frustration level, triggers and escalation signals of customer-service utterances."
    " English only: the labels of other languages mean nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback()(version)
for command in (classify, show, watch, why, score, report, info):
    app.command()(command)


def main() -> None:
    """Run `deesc`; deliberate errors become a message on standard error and exit code 1."""
    try:
        app()
    except (DeescError, OSError) as error:
        note(f"error: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
