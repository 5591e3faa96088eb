"""The `rekey` and `reseal` commands of a room as people run them: processes of their own, that may be killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from mesh import base64url


def key_environment(folder: Path, keys: Sequence[bytes], *, setting: str = "FIELD_KEY", **files: str) -> dict[str, str]:
    """The settings of field keys, the oldest first, and of further secret files by their settings."""
    folder.mkdir(exist_ok=True)
    *earlier, newest = [_secret(folder, f"field-{at}.key", base64url.encode(key)) for at, key in enumerate(keys)]
    current = {f"FINID_{setting}_FILE": str(newest)}
    named = {name: str(_secret(folder, name.lower(), content)) for name, content in files.items()}
    given = {f"FINID_EARLIER_{setting}_FILES": json.dumps(list(map(str, earlier)))} if earlier else {}
    return {"PATH": os.environ["PATH"], "FINID_ENV": "sandbox", **current, **given, **named}


def run(module: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def killed_after(module: str, environment: dict[str, str], line: str, wait_s: float = 0.0) -> None:
    """Kill a command as soon, or so many seconds after, it says a line that begins so; it must still be at work."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = list[str]()
        with contextlib.suppress(StopIteration):
            while not said or not said[-1].startswith(line):
                assert process.stdout is not None
                said.append(next(process.stdout))
        time.sleep(wait_s)
        process.kill()
    assert said, f"{module} said nothing"
    assert said[-1].startswith(line), said
    assert process.returncode == -signal.SIGKILL, "it had ended"


@contextlib.contextmanager
def slow_updates(owner_url: str, table: str) -> Iterator[None]:
    """Updates of a table take a second within the block, so that who is killed then is killed before they are done."""
    function = sql.Identifier(table.partition(".")[0], "slow")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(
            sql.SQL(
                "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN NEW; END'"
            ).format(function)
        )
        owner.execute(
            sql.SQL("CREATE TRIGGER slow BEFORE UPDATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                sql.Identifier(*table.split(".")), function
            )
        )
        yield
        owner.execute(sql.SQL("DROP FUNCTION {} CASCADE").format(function))


def _secret(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(content)
    path.chmod(0o400)
    return path
