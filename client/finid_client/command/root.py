"""The command's root: common options, and what each error's exit code is."""

import sys
from collections.abc import Sequence

import click

from finid_client.command import profile
from finid_client.command.auth import auth
from finid_client.command.cert import cert
from finid_client.command.configuration import config
from finid_client.command.exits import Exit, exit_of
from finid_client.command.options import Context
from finid_client.command.signing import sign
from finid_client.command.verifying import verify
from finid_client.errors import FinIdClientError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="finid-client")
@click.option("--profile", "profile_name", default="", help="A table of the profile file (or FINID_PROFILE).")
@click.option("--address", help="https://host[:port] (or FINID_ADDRESS).")
@click.option("--ca-file", help="PEM of the roots to trust instead of the system's (or FINID_CA_FILE).")
@click.option("--token-address", help="Where access tokens are, if elsewhere (or FINID_TOKEN_ADDRESS).")
@click.option("--client-id", help="The application's id (or FINID_CLIENT_ID).")
@click.option("--client-secret-file", help="A file of mode 0600 with its secret (or FINID_CLIENT_SECRET_FILE).")
@click.option("--redirect-uri", help="Registered for the application (or FINID_REDIRECT_URI).")
@click.option("--application", help="applications/{id}, whose signed results are believed (or FINID_APPLICATION).")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
@click.pass_context
def root(context: click.Context, /, profile_name: str, *, quiet: bool, **options: str | None) -> None:
    """FinID from a terminal.

    Exit codes: 0 done (a document is TOTAL-PASSED), 1 the answer is no (TOTAL-FAILED), 2 INDETERMINATE, 3 the person
    did not finish, 4 refused, 5 away or busy, 64 wrong use.
    """
    context.obj = Context(lambda: profile.resolve(options, profile_name), quiet)


for command in (auth, cert, config, sign, verify):
    root.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; return the exit code."""
    try:
        answer = root.main(args=list(arguments), prog_name="finid", standalone_mode=False)
    except FinIdClientError as error:
        click.echo(f"finid: {error}", err=True)
        return exit_of(error)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("finid: interrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; nothing more can be said.
        sys.stderr.close()
        return Exit.DONE
    return answer if isinstance(answer, int) else Exit.DONE
