"""`finid config`: where FinID is, and as whom it is called."""

import click

from finid_client.command import profile, terminal
from finid_client.command.exits import Exit
from finid_client.command.options import Context
from finid_client.command.profile import NAMES


@click.group()
def config() -> None:
    """Show and change settings. Options count before the environment, the environment before the profile."""


@config.command()
@click.pass_obj
def show(context: Context) -> int:
    """Print what counts, and where each setting comes from."""
    found = context.resolve()
    terminal.print_table(
        [
            (name, f"{getattr(found.settings, name)}   ({found.sources[name]})")
            for name in NAMES
            if name in found.sources
        ]
    )
    if not found.sources:
        click.echo(f"nothing is set; profiles are in {profile.file_of()}", err=True)
    return Exit.DONE


@config.command("set")
@click.argument("name", type=click.Choice(NAMES))
@click.argument("value")
@click.option("--profile", "profile_name", default=profile.DEFAULT_PROFILE, show_default=True)
def set_(name: str, value: str, profile_name: str) -> int:
    """Set NAME in a profile to VALUE ('' takes it out)."""
    path = profile.file_of()
    profile.store(path, profile_name, name, value)
    click.echo(f"{path} [{profile_name}] {name}", err=True)
    return Exit.DONE
