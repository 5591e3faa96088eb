"""supervisord: starts the mesh's processes, restarts what dies, and leaves nothing behind.

Every process is started through `setpriv --pdeathsig`, so the kernel ends it when supervisord dies, however it dies;
and supervisord itself is started so by the one who runs the mesh. It knows no readiness: `readiness.py` does.
"""

import asyncio
import contextlib
import os
import re
import shlex
import subprocess
import sys
import xmlrpc.client
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.xmlrpc import SupervisorTransport

from deploy.local.state import CHECKOUT, LocalMeshError, State

# What every process of the mesh starts from; a person's own environment does not leak in.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
# Groups start in this order and stop in the other; the programs of one group stop together.
GROUPS = ("store", "rooms", "edge")
_START_TIMEOUT_S = 10.0
# Longer than a service may drain (mesh.settings, drain_s) and shorter than `_STOP_TIMEOUT_S`.
_CHILD_STOP_S = 12
_STOP_TIMEOUT_S = 30.0
_EXITED = re.compile(r"exited: (?P<name>\S+) \((?P<how>[^;)]+)")
_SPAWNED = re.compile(r"spawned: '(?P<name>\S+)' with pid (?P<pid>\d+)")
_GAVE_UP = re.compile(r"gave up: (?P<name>\S+) entered FATAL state")


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process."""

    name: str
    group: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    # A command that already tells the kernel to end it with its parent needs no second prefix.
    ends_with_parent: bool = False


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process runs, for the first time or again."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended without having been asked to: `how` names its exit status or signal."""

    name: str
    how: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A process ended too often right after its start and is not started again."""

    name: str


Event = Spawned | Died | GaveUp


class Supervisor:
    """One supervisord and the programs it was given."""

    def __init__(self, state: State, programs: Sequence[Program]) -> None:
        self._programs = tuple(programs)
        self._logs = state.private("log")
        self._log = self._logs / "supervisord.log"
        self._socket = state.private("run") / "supervisor.sock"
        self._configuration = state.write("run/supervisord.conf", self._render(), mode=0o600)
        self._process: asyncio.subprocess.Process | None = None

    def log_of(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    def last_line_of(self, name: str) -> str:
        """The last line that a program wrote, "" if it wrote none."""
        try:
            lines = self.log_of(name).read_text(errors="replace").rstrip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1][:400] if lines else ""

    @property
    def pid(self) -> int:
        """The process id of supervisord."""
        if self._process is None:
            raise LocalMeshError("supervisord is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start supervisord, and none of its programs yet. Call from the main thread: its death ends supervisord."""
        self._socket.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        self._log.touch(mode=0o600)
        output = (self._logs / "supervisord.output").open("wb")
        with output:
            self._process = await asyncio.create_subprocess_exec(
                "/usr/bin/setpriv",
                "--pdeathsig=TERM",
                "--",
                sys.executable,
                "-m",
                "supervisor.supervisord",
                f"--configuration={self._configuration}",
                cwd=CHECKOUT,
                env=_ENVIRONMENT | {"HOME": str(Path.home())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the one who runs the mesh, who then stops it in order
            )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not self._socket.exists():
                    if self._process.returncode is not None:
                        raise LocalMeshError(f"supervisord did not start; see {output.name}")
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise LocalMeshError(
                f"supervisord did not start within {_START_TIMEOUT_S:.0f} s; see {output.name}"
            ) from error

    async def start_programs(self, names: Sequence[str]) -> None:
        """Start programs together, without waiting until they are up."""
        groups = {program.name: program.group for program in self._programs}
        for name in names:
            await asyncio.to_thread(self._call, "startProcess", f"{groups[name]}:{name}", False)

    async def wait(self) -> int:
        """Return supervisord's exit code when it ends."""
        if self._process is None:
            raise LocalMeshError("supervisord is not running")
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop every program, then supervisord; whatever does not stop in time is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()  # the kernel then ends every program
            await self._process.wait()

    async def events(self) -> AsyncIterator[Event]:
        """What happens to the programs, from the start of supervisord on."""
        with self._log.open() as log:
            partial = ""
            while True:
                text = await asyncio.to_thread(log.read)
                if not text:
                    await asyncio.sleep(0.1)
                *lines, partial = (partial + text).split("\n")
                for line in lines:
                    if event := _event(line):
                        yield event

    def _call(self, method: str, *arguments: object) -> object:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with contextlib.closing(transport):
            server = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
            return getattr(server.supervisor, method)(*arguments)

    def _render(self) -> str:
        run = self._socket.parent
        sections = {
            "unix_http_server": {"file": str(self._socket), "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "supervisord": {
                "nodaemon": "true",
                "silent": "true",
                "logfile": str(self._log),
                "logfile_maxbytes": "0",  # `events` follows it; a start begins it anew
                "pidfile": str(run / "supervisord.pid"),
                "childlogdir": str(self._logs),
                "directory": str(CHECKOUT),
                "umask": "077",
            },
        }
        if os.geteuid() == 0:
            sections["supervisord"]["user"] = "root"  # says that this is meant
        for program in self._programs:
            sections[f"program:{program.name}"] = self._section(program)
        for priority, group in enumerate(GROUPS):
            members = ",".join(program.name for program in self._programs if program.group == group)
            if members:
                sections[f"group:{group}"] = {"programs": members, "priority": str(priority)}
        return "\n".join(
            f"[{title}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for title, entries in sections.items()
        )

    def _section(self, program: Program) -> dict[str, str]:
        prefix = [] if program.ends_with_parent else ["/usr/bin/setpriv", "--pdeathsig=KILL", "--"]
        if odd := [name for name, value in program.environment.items() if '"' in value or "\n" in value]:
            raise ValueError(f"{program.name}: supervisord cannot pass on {', '.join(odd)}")
        quoted = (f'{name}="{value}"' for name, value in program.environment.items())
        return {
            "command": _escaped(shlex.join([*prefix, *program.command])),
            "environment": _escaped(",".join(quoted)),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "20",
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(_CHILD_STOP_S),
            # Only its leader is told to stop, which then ends its own workers in order; after that, all are killed.
            "killasgroup": "true",
            "stdout_logfile": _escaped(str(self.log_of(program.name))),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "1",
            "redirect_stderr": "true",
        }


def _event(line: str) -> Event | None:
    if found := _EXITED.search(line):
        return Died(found["name"], found["how"])
    if found := _SPAWNED.search(line):
        return Spawned(found["name"], int(found["pid"]))
    if found := _GAVE_UP.search(line):
        return GaveUp(found["name"])
    return None


def _escaped(value: str) -> str:
    return value.replace("%", "%%")
