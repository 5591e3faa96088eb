"""What the running mesh has emitted, and the values that it may not have: for the tests that compare the two."""

import base64
import json
from pathlib import Path

import httpx

import services.registry
from deploy.demo.phone import _CODE as CODE_IN_TEXT
from deploy.local.services import ROOMS
from deploy.local.state import READY_FILE
from tests import samples
from tests.collector import Collector
from tests.emitted import log_texts, number_of_people, secret_values, span_texts
from tests.heard import Heard
from tests.mesh_process import RunningMesh

PEOPLE = json.loads((Path(services.registry.__path__[0]) / "sandbox_people.json").read_text(encoding="utf-8"))["people"]
# OpenTelemetry's batch processor sends what it has every five seconds.
EXPORTED_WITHIN_S = 6.0


def used_values(mesh: RunningMesh, heard: Heard) -> dict[str, str]:
    """What was said over REST, what was sent by SMS, who lives in the sandbox, and what the state's folder keeps."""
    values = dict(heard.values) | number_of_people(PEOPLE)
    for path in mesh.outbox.glob("*.json"):
        sms = json.loads(path.read_text(encoding="utf-8"))
        values[sms["to"]] = "phone"
        values |= dict.fromkeys(CODE_IN_TEXT.findall(sms["text"]), "code")
    for folder in ("secrets", "keys", "tokens"):
        values |= secret_values(mesh.folder / folder)
    for person in PEOPLE:
        photo = base64.b64encode(samples.photo(person["portrait"])).decode()
        values[photo[len(photo) // 2 :][:60]] = "photo"
    return values


def service_metrics(ports: dict[str, int]) -> set[str]:
    """What every service shows when it is scraped: names, labels and help, without the figures.

    Buckets are left out: their labels are those of the count beside them, and `le`, which the code has.
    """
    shown = set()
    for room in ROOMS:
        address = f"http://127.0.0.1:{ports[f'{room} metrics']}/metrics"
        text = httpx.get(address, timeout=30, trust_env=False).raise_for_status().text
        lines = (line for line in text.splitlines() if "_bucket{" not in line)
        shown |= {line if line.startswith("#") else line.rpartition(" ")[0] for line in lines}
    return shown


def places_of(mesh: RunningMesh, collector: Collector) -> dict[str, set[str]]:
    """Where something could stand: all logs, what the mesh printed, spans, names and labels of all metrics."""
    ports = json.loads((mesh.folder / "run" / READY_FILE).read_text())["ports"]
    stats = httpx.get(f"http://127.0.0.1:{ports['envoy admin']}/stats", timeout=30, trust_env=False)
    logs = {path.name: log_texts(path) for path in sorted((mesh.folder / "log").iterdir())}
    # What `make run` prints for pasting names a made-up person of the sandbox, on purpose.
    printed = {text for text in log_texts(mesh.output) if not text.startswith("LINK=")}
    return logs | {
        "output": printed,
        "spans": span_texts(collector.exported()),
        "metrics": {line.rpartition(": ")[0] for line in stats.text.splitlines()} | service_metrics(ports),
    }
