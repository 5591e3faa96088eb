"""The command `finid`: authentications, certificates, signatures and verification from a terminal.

Its exit codes are those of `finid_client.command.exits`.
"""

import sys


def main() -> int:
    """Run the command; return its exit code."""
    try:
        from finid_client.command.root import run  # noqa: PLC0415 - what it needs is an extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "segno"}:
            raise
        sys.stderr.write(f'finid: {error.name} is missing; pip install "finid-client[cli]"\n')
        return 64
    return run(sys.argv[1:])
