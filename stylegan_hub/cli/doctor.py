"""`stylegan-hub doctor`."""

from __future__ import annotations

import warnings

import typer

from stylegan_hub.cli.console import main, reporting


@main.command()
def doctor() -> None:
    """Show what makes rendering fast on this machine, and how to install what is missing.

    \b
    Example:
      stylegan-hub doctor
    """
    with reporting():
        from stylegan_hub.doctor import examine

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the findings say the same, once
            for finding in examine():
                typer.echo(f"{finding.name + ':':<24} {finding.answer}")
                if finding.remedy is not None:
                    typer.echo(
                        "".join(f"    {line}\n" for line in finding.remedy.splitlines()), nl=False
                    )
