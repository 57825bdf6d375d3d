"""`automixer`: the same assets and answers without the UI.

Exit codes: 0 fine, 1 the check or run failed, 2 bad usage or configuration. With `--json`, standard output holds the
machine-readable form and nothing else; progress and errors go to standard error.
"""

from __future__ import annotations

import sys

import typer

from automixer_assets.commands import (
    corpus,
    errors,
    lake,
    lineage,
    mixture,
    pipeline,
    plan,
    report,
    retention,
    snapshot,
    tasks,
)
from automixer_assets.errors import AutomixerError, ConfigurationError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(pipeline.app)
app.add_typer(plan.app)
app.add_typer(report.app)
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(tasks.app, name="tasks")
app.add_typer(mixture.app, name="mixture")
app.add_typer(corpus.app, name="corpus")
app.add_typer(lineage.app)
app.add_typer(lake.app, name="lake")
app.add_typer(retention.app)


def main() -> None:
    """Entry point: one sentence and an exit code instead of a stack trace for what the user can mend."""
    try:
        app()
    except ConfigurationError as error:
        errors.print(f"[red]error:[/red] {_plain(error)}")
        sys.exit(2)
    except AutomixerError as error:
        errors.print(f"[red]error:[/red] {_plain(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; finished parts are kept, run the same command again to go on")
        sys.exit(130)


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
