"""The whole mesh on this machine: prepared step by step, started together, watched, and stopped without a trace."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deploy.local import certificates, commands, envoy, floors, keys, ports, postgres, tokens
from deploy.local.assets import prepare as assets
from deploy.local.database import Database, ensure_roles, provision, random_password, role_names
from deploy.local.display import Display
from deploy.local.memory import resident_bytes
from deploy.local.ports import SERVICES
from deploy.local.readiness import Check, grpc_health, https_get, wait_for_all
from deploy.local.services import ROOMS, ROOMS_WITH_DATABASE, Parts, environment_of, pki_url
from deploy.local.settings import LocalSettings
from deploy.local.state import READY_FILE, LocalMeshError, State
from deploy.local.supervise import Died, GaveUp, Program, Spawned, Supervisor
from mesh.migrate import migrate

DATABASE = "finid"
_STORE = "postgresql"
_EDGE = "envoy"
_READY_TIMEOUT_S = 120.0
_PORTS_FREE_TIMEOUT_S = 15.0
# Once may be chance; who dies so often before all are ready will not start.
_DEATHS_AT_START = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """What stands before any process starts."""

    parts: Parts
    server: postgres.Server | None
    database: Database
    programs: Sequence[Program]
    checks: dict[str, Check]


def prepare(settings: LocalSettings, state: State, display: Display) -> Prepared:
    """Make what the mesh needs and is missing; each step that is done is not repeated. Raises LocalMeshError."""
    now = datetime.now(UTC)
    numbers = ports.numbers(settings.port_base)
    ports.require_free(numbers)
    with display.step("certificates and keys"):
        identities = certificates.mesh_identities(state, [*SERVICES, "envoy"], now)
        web = certificates.web_identity(state, now)
        receipt_keys = keys.receipt_keys(state)
    with display.step(
        "development tokens (SoftHSM: keys in files, no certified device) and ceremonies (one PIN, nobody confirms)"
    ):
        token_of = {name: tokens.ensure_token(state, name) for name in ("root", "ca", "signer")}
        pki = commands.ca_ceremony(state, token_of["root"], token_of["ca"], pki_url(numbers))
        commands.signer_ceremony(token_of["signer"])
    parts = Parts(
        state=state,
        ports=numbers,
        identities=identities,
        web=web,
        receipt_keys=receipt_keys,
        pins=keys.pins_file(state, receipt_keys, now),
        floors=floors.floors_files(state),
        tokens=token_of,
        pki=pki,
        assets=assets.default_folder(),
        otlp_endpoint=settings.otlp_endpoint,
        log_level=settings.log_level,
        webhook_uri=settings.webhook_uri,
    )
    server = None
    if not settings.database_url:
        with display.step("PostgreSQL's files"):
            server = postgres.prepare(state, numbers["postgresql"])
    passwords = {role: _password(state, role) for role in role_names(ROOMS_WITH_DATABASE)}
    database = Database(server.admin_url if server else settings.database_url, DATABASE, passwords)
    for room in ROOMS_WITH_DATABASE:
        state.write(f"secrets/{room}.url", database.url(room))
    state.write("secrets/portal-admin.url", database.portal_admin_url)
    programs = _programs(parts, server)
    checks: dict[str, Check] = {room: grpc_health(numbers[f"{room} health"]) for room in ROOMS}
    if server is not None:
        checks[_STORE] = postgres.check(server.admin_url)
    checks[_EDGE] = https_get(f"{parts.web_url}/.well-known/jwks.json", web.root)
    return Prepared(parts, server, database, programs, checks)


def _password(state: State, role: str) -> str:
    return state.secret(f"secrets/{role}.password", random_password).read_text()


def _programs(parts: Parts, server: postgres.Server | None) -> list[Program]:
    configuration = parts.state.write("run/envoy.json", envoy.configuration(parts), mode=0o600)
    store = []
    if server is not None:
        # It tells the kernel itself to end it with its parent; SIGINT is its fast shutdown.
        store = [Program(_STORE, "store", server.command, server.environment, "INT", ends_with_parent=True)]
    rooms = [
        Program(room, "rooms", (sys.executable, "-m", f"services.{room}"), environment_of(room, parts))
        for room in ROOMS
    ]
    return [*store, *rooms, Program(_EDGE, "edge", envoy.program(configuration))]


class Mesh:
    """The running mesh."""

    def __init__(self, prepared: Prepared, display: Display) -> None:
        self.parts = prepared.parts
        self.client_secret_file = commands.client_secret_file(prepared.parts.state)
        self.ready_after_s = 0.0
        self._prepared = prepared
        self._display = display
        self._is_up = False
        self._supervisor = Supervisor(prepared.parts.state, prepared.programs)

    @property
    def resident_bytes(self) -> int:
        """Memory of all its processes."""
        return resident_bytes(self._supervisor.pid)

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self._supervisor.log_of(name)

    async def launch(self) -> None:
        """Start supervisord, and nothing else yet."""
        await self._supervisor.start()

    async def bring_up(self) -> None:
        """Start everything and return when all are ready. Raises LocalMeshError naming who is not, and why."""
        started = time.monotonic()
        names = [program.name for program in self._prepared.programs if program.name != _STORE]
        with self._display.step("database: roles, schemas, migrations"):
            if self._prepared.server is not None:
                await self._supervisor.start_programs([_STORE])
                await asyncio.to_thread(postgres.wait_until_ready, self._prepared.database.admin_url)
            await asyncio.to_thread(self._migrate)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(commands.fill_registry, self.parts, self._prepared.database))
            group.create_task(asyncio.to_thread(commands.fill_portal, self.parts, self._prepared.database))
            await self._supervisor.start_programs(names)
            await self._wait_until_ready()
        self.ready_after_s = time.monotonic() - started
        self._is_up = True

    async def watch(self) -> None:
        """Say who died, why, and that it serves again, until cancelled; start all again if supervisord itself dies."""
        again = False
        while True:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._report())]
                if again:
                    tasks.append(group.create_task(self._bring_up_again()))
                code = await self._supervisor.wait()
                for task in tasks:
                    task.cancel()
            how = f"terminated by signal {-code}" if code < 0 else f"exit status {code}"
            if not self._is_up:
                raise LocalMeshError(f"supervisord died ({how}) before all were ready")
            self._display.say(f"supervisord died ({how}), and all processes with it; starting them again")
            self._is_up, again = False, True
            await self._until_ports_are_free()
            await self.launch()

    async def _bring_up_again(self) -> None:
        await self.bring_up()
        self._display.say(f"all are serving again after {self.ready_after_s:.1f} s")

    async def stop(self) -> None:
        """Stop all processes."""
        await self._supervisor.stop()

    def _migrate(self) -> None:
        database = self._prepared.database
        try:
            ensure_roles(database.admin_url, database.passwords)
            provision(database, ROOMS_WITH_DATABASE, migrate)
        except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
            where = "PostgreSQL" if self._prepared.server else "the server of DATABASE_URL"
            raise LocalMeshError(f"{where} refused: {error}") from error

    async def _wait_until_ready(self) -> None:
        late = await wait_for_all(
            self._prepared.checks,
            _READY_TIMEOUT_S,
            lambda name, after_s: self._display.say(f"  {name} is ready after {after_s:.1f} s"),
            self._display.waiting,
        )
        self._display.done_waiting()
        if late is not None:
            raise LocalMeshError(
                f"not ready within {_READY_TIMEOUT_S:.0f} s:\n"
                + "\n".join(f"  {name} {reason}; {self._last_words(name)}" for name, reason in late.reasons.items())
            )

    async def _report(self) -> None:
        """Say what happens to the processes."""
        async with asyncio.TaskGroup() as group:
            died: Counter[str] = Counter()
            async for event in self._supervisor.events():
                match event:
                    case Died(name, how):
                        died[name] += 1
                        self._display.say(f"{name} died: {how}; {self._last_words(name)}")
                        if not self._is_up and died[name] == _DEATHS_AT_START:
                            raise LocalMeshError(f"{name} does not start: {how}; {self._last_words(name)}")
                    case Spawned(name, pid) if died[name]:
                        self._display.say(f"{name} is restarted as process {pid}")
                        group.create_task(self._say_when_ready(name))
                    case GaveUp(name):
                        self._display.say(f"{name} ends after every start and is left alone; see {self.log_of(name)}")

    async def _say_when_ready(self, name: str) -> None:
        late = await wait_for_all(
            {name: self._prepared.checks[name]},
            _READY_TIMEOUT_S,
            lambda _, after_s: self._display.say(f"{name} is serving again after {after_s:.1f} s"),
            lambda _: None,
        )
        if late is not None:
            self._display.say(f"{name} {late.reasons[name]}, {_READY_TIMEOUT_S:.0f} s after its restart")

    def _last_words(self, name: str) -> str:
        words = self._supervisor.last_line_of(name) or "it wrote nothing"
        return f"last log line: {words} ({self.log_of(name)})"

    async def _until_ports_are_free(self) -> None:
        """Wait for the kernel to end what supervisord left."""
        deadline = time.monotonic() + _PORTS_FREE_TIMEOUT_S
        while True:
            try:
                return ports.require_free(self.parts.ports)
            except LocalMeshError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running_mesh(settings: LocalSettings, display: Display) -> AsyncIterator[Mesh]:
    """Run the mesh and watch it; stop it whatever happens inside."""
    state = State.open(settings.state_folder)
    with state.locked():
        (state.private("run") / READY_FILE).unlink(missing_ok=True)
        mesh = Mesh(await asyncio.to_thread(prepare, settings, state, display), display)
        try:
            async with asyncio.TaskGroup() as group:
                await mesh.launch()
                watcher = group.create_task(mesh.watch())
                await mesh.bring_up()
                yield mesh
                watcher.cancel()
        finally:
            (state.private("run") / READY_FILE).unlink(missing_ok=True)
            await mesh.stop()
