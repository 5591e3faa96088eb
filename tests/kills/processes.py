"""The signer, the CA and PostgreSQL as real processes on real tokens, which die by SIGKILL and come back."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import grpc

from deploy.local import database, postgres
from deploy.local.database import Database as Provisioned
from deploy.local.ports import SERVICES
from deploy.local.state import State
from mesh import base64url
from mesh.hsm import KekName
from mesh.migrate import migrate
from services.ca.authority import CHAIN_FILE
from services.signer.subject_keys import KEK_LABEL
from tests.bundles import World, digest_of
from tests.ca.authorities import PRACTICE, CeremonyPlace
from tests.ca.orders import orderers_json
from tests.ca.requests import unix_now
from tests.deployed import SERVING, Deployed, deployed
from tests.mtls import Authority
from tests.ports import free_port
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace

_PINNED_S = 86_400
_BACK_WITHIN_S = 60.0
# Between a service's death and the closing of its channels: by then every call has heard of it.
_HEARD_S = 0.05


class Target(StrEnum):
    """What is killed. Of PostgreSQL its postmaster, or any one of its children, after which it recovers by itself."""

    SIGNER = "signer"
    CA = "ca"
    POSTMASTER = "postgresql"
    CHILD = "one process of postgresql"


class Service:
    """One service over all its lives: the same settings, the same addresses."""

    def __init__(self, name: str, authority: Authority, environment: Mapping[str, str]) -> None:
        self.name = name
        self.logs: list[str] = []
        self._authority = authority
        self._environment = {
            "FINID_LISTEN": f"127.0.0.1:{free_port()}",
            "FINID_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
            **environment,
        }
        self._life = AsyncExitStack()
        self._alive: Deployed | None = None
        self._channel: grpc.aio.Channel | None = None
        self._serving = asyncio.Event()

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._life = AsyncExitStack()
        alive = await self._life.enter_async_context(deployed(self.name, self._authority, self._environment))
        self._alive, self._channel = alive, alive.channel("auth_gateway")
        self._serving.set()

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self._alive is not None
        self._serving.clear()
        self._alive.kill()
        await asyncio.sleep(_HEARD_S)
        await self._end()

    async def stop(self) -> None:
        """End it as its supervisor does; it must end well."""
        self._serving.clear()
        await self._end()

    async def channel(self) -> grpc.aio.Channel:
        """The gateway's channel to it; waits while it is down."""
        await self._serving.wait()
        assert self._channel is not None
        return self._channel

    async def serves(self) -> None:
        """Wait until it says so itself."""
        assert self._alive is not None
        await self._alive.becomes(SERVING, _BACK_WITHIN_S)

    async def _end(self) -> None:
        alive, self._alive = self._alive, None
        if alive is None:
            return
        try:
            await self._life.aclose()
        except ProcessLookupError as error:
            raise AssertionError(f"{self.name} had ended by itself:\n{alive.log}") from error
        self.logs.append(alive.log)


class PostgresServer:
    """A durable server: what it has committed it has after every death."""

    def __init__(self, folder: Path) -> None:
        self._state = State.open(folder)
        self._port = free_port()
        self._log = folder / "postgresql.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.admin_url = ""

    async def start(self) -> None:
        """Start it and wait until it answers; children of one that was killed may hold its memory for a moment."""
        async with asyncio.timeout(_BACK_WITHIN_S):
            while True:
                self._run()
                if await self._answers():
                    return
                await asyncio.sleep(0.1)

    def _run(self) -> None:
        # In the loop's own thread: the server ends with the thread that started it (PR_SET_PDEATHSIG).
        server = postgres.prepare(self._state, self._port)
        self.admin_url = server.admin_url
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(server.command, env=server.environment, stdout=log, stderr=log)

    async def _answers(self) -> bool:
        """Whether it came to answer before it ended."""
        assert self._process is not None
        answers = postgres.check(self.admin_url)
        while self._process.poll() is None:
            if not await answers():
                return True
            await asyncio.sleep(0.02)
        return False

    async def kill(self) -> None:
        """Kill the postmaster; its children end when they notice."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    def kill_child(self, chance: random.Random) -> None:
        """Kill one child, a backend or one that writes in the background; the postmaster then has all begin anew."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        try:
            os.kill(int(chance.choice(sorted(children))), signal.SIGKILL)
        except ProcessLookupError:
            return  # it has just ended by itself

    async def answers(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(_BACK_WITHIN_S):
            assert await self._answers()

    async def stop(self) -> None:
        """Shut it down."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._process.wait, 30)


@dataclass
class Processes:
    """All that is killed, and what those who use it and judge it need to know."""

    signer: Service
    ca: Service
    server: PostgresServer
    database: Provisioned
    world: World
    pki_folder: Path
    tokens: tuple[TokenPlace, TokenPlace]
    field_key: bytes
    killed: dict[Target, int] = field(default_factory=lambda: dict.fromkeys(Target, 0))

    async def kill(self, target: Target, chance: random.Random) -> None:
        """Kill it at once, bring it back, and wait until all serve again."""
        self.killed[target] += 1
        if target is Target.POSTMASTER:
            await self.server.kill()
            await self.server.start()
        elif target is Target.CHILD:
            self.server.kill_child(chance)
            await self.server.answers()
        else:
            service = self.signer if target is Target.SIGNER else self.ca
            await service.kill()
            await service.start()
        await asyncio.gather(self.signer.serves(), self.ca.serves())

    def token_objects(self) -> int:
        """How many objects both tokens keep: their keys. What is unwrapped must never be among them."""
        return sum(len(list(token.folder.glob("*.object"))) for token in self.tokens)


@contextmanager
def _server_folder() -> Iterator[Path]:
    # Not under a folder of mode 0700: the server's own user must be able to pass through.
    folder = Path(tempfile.mkdtemp(prefix="finid-kills-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def running(folder: Path, softhsm: SoftHsm) -> AsyncIterator[Processes]:
    """Hold the ceremonies, start everything, and stop it in the end; `folder` takes the files."""
    async with AsyncExitStack() as stack:
        server = PostgresServer(stack.enter_context(_server_folder()))
        stack.push_async_callback(server.stop)
        await server.start()
        passwords = {role: database.random_password() for role in database.role_names(SERVICES)}
        database.ensure_roles(server.admin_url, passwords)
        provisioned = Provisioned(server.admin_url, "finid", passwords)
        database.provision(provisioned, ("signer", "ca"), migrate)
        processes = _processes(folder, softhsm, server, provisioned)
        for service in (processes.signer, processes.ca):
            await service.start()
            stack.push_async_callback(service.stop)
        yield processes


def _processes(folder: Path, softhsm: SoftHsm, server: PostgresServer, provisioned: Provisioned) -> Processes:
    world, authority = World(), Authority(folder)
    ceremony = CeremonyPlace.create(folder / "pki", softhsm)
    ceremony.run()
    subject_token = softhsm.new_token()
    subject_token.open(writable=True).create_kek(KekName(KEK_LABEL, 1))
    field_key, files = digest_of("field key"), _files(folder, world, provisioned)
    mesh = {
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_PINS_FILE": str(files["pins.json"]),
    }
    signer = Service(
        "signer",
        authority,
        {
            **mesh,
            "FINID_DATABASE_URL_FILE": str(files["signer.url"]),
            "FINID_RECEIPT_KEY_FILE": str(files["signer-receipts.key"]),
            "FINID_FLOORS_FILE": str(files["signer-floors.json"]),
            "FINID_ISSUING_CA_FILE": str(ceremony.folder / CHAIN_FILE),
            "FINID_SUBJECT_HMAC_KEY_FILE": str(files["hmac.key"]),
            "FINID_TOKEN_LABEL": subject_token.label,
            "FINID_TOKEN_PIN_FILE": str(subject_token.pin_file),
        },
    )
    ca = Service(
        "ca",
        authority,
        {
            **mesh,
            "FINID_DATABASE_URL_FILE": str(files["ca.url"]),
            "FINID_FLOORS_FILE": str(files["ca-floors.json"]),
            "FINID_ORDERERS_FILE": str(files["orderers.json"]),
            "FINID_FIELD_KEY_FILE": str(files["field.key"]),
            "FINID_CA_PKI_FOLDER": str(ceremony.folder),
            "FINID_CA_PKI_URL": PRACTICE.pki_url,
            "FINID_CA_CRL_FILE": str(folder / "last.crl"),
            "FINID_TOKEN_LABEL": ceremony.ca_token.label,
            "FINID_TOKEN_PIN_FILE": str(ceremony.ca_token.pin_file),
        },
    )
    return Processes(
        signer=signer,
        ca=ca,
        server=server,
        database=provisioned,
        world=world,
        pki_folder=ceremony.folder,
        tokens=(subject_token, ceremony.ca_token),
        field_key=field_key,
    )


def _files(folder: Path, world: World, provisioned: Provisioned) -> dict[str, Path]:
    """Write the settings' files; return where."""
    around = unix_now()
    contents = {
        "pins.json": world.pins_json(not_before=around - _PINNED_S, not_after=around + _PINNED_S),
        "signer-floors.json": world.floors_json(),
        "ca-floors.json": world.floors_json(attested=True),
        "orderers.json": orderers_json(),
        "signer-receipts.key": world.key_pem("signer"),
        "signer.url": provisioned.url("signer").encode(),
        "ca.url": provisioned.url("ca").encode(),
        "hmac.key": base64url.encode(digest_of("hmac key")).encode(),
        "field.key": base64url.encode(digest_of("field key")).encode(),
    }
    for name, content in contents.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        path.chmod(0o400)
    return {name: folder / name for name in contents}
