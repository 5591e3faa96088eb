"""By how much a figure has grown since a test began: figures are of the process, which other tests share."""

from dataclasses import dataclass, field

from mesh.instruments import Counter, Histogram


@dataclass(slots=True)
class Grown:
    """`Grown.of(metrics.CODES_CHECKED, outcome="wrong")` before, `.by()` after."""

    instrument: Counter | Histogram
    labels: dict[str, str]
    _before: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.instrument.count(**self.labels)

    @classmethod
    def of(cls, instrument: Counter | Histogram, **labels: str) -> "Grown":
        """Look at a figure now."""
        return cls(instrument, labels)

    def by(self) -> float:
        """How often something was counted since."""
        return self.instrument.count(**self.labels) - self._before
