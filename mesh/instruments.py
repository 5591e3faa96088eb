"""Instruments whose labels have closed lists of values, so that metrics hold nothing personal and cannot grow.

Whatever value is in no label's list, given by mistake or by an attacker, counts as "other", as `telemetry` replaces
what is no field of its list. The instruments themselves are in one catalogue, `metrics`.

prometheus-client keeps the figures, not OpenTelemetry's metrics: recording costs a sixth (2 µs of processor time
against 14), and a call of the mesh records several times. OTLP carries traces; a collector that wants metrics
scrapes.
"""

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import prometheus_client
from google.protobuf import descriptor_pool
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER: Final = "other"

# A series that begins with its first event hides that event from increase(): small ones are shown as 0 from the start.
_MAX_SHOWN_AT_START: Final = 48
_MAX_NAMES: Final = 32
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")

Labels = Mapping[str, Collection[str]]
"""The values of each label."""

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Methods(Collection[str]):
    """The methods of the protos that this process has loaded, as "Service/Method"."""

    def __init__(self) -> None:
        self._names: dict[str | bytes, str] = {}

    def of(self, path: str | bytes) -> str:
        """Return "Service/Method" of a path "/package.Service/Method", "other" when no proto has it.

        Client interceptors of grpc.aio get bytes (grpc issue 31092).
        """
        name = self._names.get(path)
        if name is None:
            text = path.decode() if isinstance(path, bytes) else path
            service, _, method = text.removeprefix("/").rpartition("/")
            try:
                descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
            except KeyError:
                return OTHER
            name = self._names[path] = f"{service.rpartition('.')[2]}/{method}"
        return name

    def __contains__(self, name: object) -> bool:
        return name in self._names.values()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.values())

    def __len__(self) -> int:
        return len(self._names)


class Configured(Collection[str]):
    """Words from an operator's own file, told at the start: few, short, and from no request."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()

    def tell(self, names: Collection[str]) -> None:
        """Take these. Raises ValueError for too many, or for what is no short word."""
        if len(names) > _MAX_NAMES or not all(map(_NAME.fullmatch, names)):
            raise ValueError("the values of a label are few, and short words")
        self._names = frozenset(names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Instrument:
    """One entry of the catalogue: `of` names the services that show it, `labels` gives each label its values.

    The label `service` is filled in by itself. A label left out is "other", one too many is dropped.
    """

    kind: str

    def __init__(self, name: str, text: str, of: Collection[str], labels: Labels) -> None:
        self.name = name
        self.text = text
        self.of = frozenset(of)
        self.labels = labels

    def values(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """Return a value for each label, in order; what is not in its list is "other"."""
        return tuple(_shown(label, listed, given.get(label, OTHER)) for label, listed in self.labels.items())

    def collector(self) -> Collector:
        """Return what shows the figures."""
        raise NotImplementedError

    def show_at_start(self) -> None:
        """Show a small instrument's every series, as 0."""

    def _combinations(self) -> list[tuple[str, ...]]:
        """Return every combination of the labels' values; none when they are many."""
        own = {"service": (_Service.name,)}
        lists = [sorted(own.get(label, listed)) for label, listed in self.labels.items()]
        if math.prod(map(len, lists)) > _MAX_SHOWN_AT_START:
            return []
        return list(itertools.product(*lists))

    def _found(self, sample_name: str, given: Mapping[str, str]) -> float:
        wanted = dict(zip(self.labels, self.values(given), strict=True))
        samples = (sample for metric in self.collector().collect() for sample in metric.samples)
        return sum(sample.value for sample in samples if sample.name == sample_name and sample.labels == wanted)


def _shown(label: str, listed: Collection[str], value: str) -> str:
    if label == "service":
        return _Service.name
    return value if value in listed else OTHER


class _Service:
    """Whose figures this process has."""

    name = OTHER


def belong_to(service: str) -> None:
    """Say whose figures this process has, before it takes any."""
    _Service.name = service


class Counter(Instrument):
    """Counts what has happened; it only ever grows."""

    kind = "counter"

    def __init__(self, name: str, text: str, of: Collection[str], **labels: Collection[str]) -> None:
        super().__init__(name, text, of, labels)
        self._metric = prometheus_client.Counter(name, text, tuple(labels), registry=None)
        self._known: dict[tuple[str, ...], prometheus_client.Counter] = {}

    def add(self, amount: float = 1, /, **given: str) -> None:
        """Count; where a state changes, after that has been committed."""
        key = (_Service.name, *given, *given.values())
        child = self._known.get(key)
        if child is None:
            child = self._metric.labels(*self.values(given)) if self.labels else self._metric
            if _all_listed(self, given):
                self._known[key] = child
        child.inc(amount)

    def count(self, **given: str) -> float:
        """Return what has been counted under these labels so far."""
        return self._found(self.name, given)

    def collector(self) -> Collector:
        """Return what shows the figures."""
        return self._metric

    def show_at_start(self) -> None:
        """Show a small counter's every series, as 0."""
        if self.labels:
            for values in self._combinations():
                self._metric.labels(*values)


class Histogram(Instrument):
    """How a quantity is distributed: how often it was at most each of `buckets`."""

    kind = "histogram"

    def __init__(
        self, name: str, text: str, of: Collection[str], buckets: tuple[float, ...], **labels: Collection[str]
    ) -> None:
        super().__init__(name, text, of, labels)
        self.buckets = buckets
        self._metric = prometheus_client.Histogram(name, text, tuple(labels), registry=None, buckets=buckets)
        self._known: dict[tuple[str, ...], prometheus_client.Histogram] = {}

    def record(self, value: float, /, **given: str) -> None:
        """Take one value, in the unit that the name says."""
        key = (_Service.name, *given, *given.values())
        child = self._known.get(key)
        if child is None:
            child = self._metric.labels(*self.values(given)) if self.labels else self._metric
            if _all_listed(self, given):
                self._known[key] = child
        child.observe(value)

    def count(self, **given: str) -> float:
        """Return how many values there have been under these labels."""
        return self._found(f"{self.name}_count", given)

    def collector(self) -> Collector:
        """Return what shows the figures."""
        return self._metric


class Gauge(Instrument, Collector):
    """What is so now. It is not shown before somebody has said it, nor after it was forgotten."""

    kind = "gauge"

    def __init__(self, name: str, text: str, of: Collection[str], **labels: Collection[str]) -> None:
        super().__init__(name, text, of, labels)
        self._now: dict[tuple[str, ...], Callable[[], float]] = {}

    def set(self, value: float, /, **given: str) -> None:
        """Say what is so now."""
        self._now[self.values(given)] = lambda: value

    def read(self, now: Callable[[], float], /, **given: str) -> None:
        """Have `now` called whenever somebody scrapes, in a thread of its own: it is quick and raises nothing."""
        self._now[self.values(given)] = now

    def forget(self) -> None:
        """Show nothing rather than what was so once: whoever said it has lost sight of it."""
        self._now.clear()

    def shown(self, **given: str) -> float | None:
        """Return what is shown under these labels, None for nothing."""
        now = self._now.get(self.values(given))
        return None if now is None else now()

    def collect(self) -> Iterator[Metric]:
        """Give what is so now (prometheus_client's Collector)."""
        family = GaugeMetricFamily(self.name, self.text, labels=tuple(self.labels))
        for values, now in list(self._now.items()):
            family.add_metric(values, now())
        yield family

    def collector(self) -> Collector:
        """Return what shows the figures."""
        return self


def _all_listed(instrument: Instrument, given: Mapping[str, str]) -> bool:
    """Only what is listed is remembered for the next time, so that what is not cannot fill the memory."""
    return all(value in instrument.labels.get(label, ()) for label, value in given.items())


def registry_of(service: str, instruments: Collection[Instrument]) -> prometheus_client.CollectorRegistry:
    """Return what a service shows from now on: its instruments, and CPU, memory and files of its process."""
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    for instrument in instruments:
        if service in instrument.of:
            registry.register(instrument.collector())
            instrument.show_at_start()
    return registry
