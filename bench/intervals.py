"""Exact intervals of rates that were counted."""

from dataclasses import dataclass

from scipy.stats import beta


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many, and the 95 % interval of Clopper and Pearson (1934), which needs independent trials."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share; not a number without trials."""
        return self.count / self.of if self.of else float("nan")

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the least and the most that the rate may be; all of 0 to 1 without trials."""
        if not self.of:
            return 0.0, 1.0
        tail = (1 - confidence) / 2
        least = beta.ppf(tail, self.count, self.of - self.count + 1) if self.count else 0.0
        most = beta.ppf(1 - tail, self.count + 1, self.of - self.count) if self.count < self.of else 1.0
        return float(least), float(most)

    def __str__(self) -> str:
        """Percent with the interval."""
        if not self.of:
            return "-"
        least, most = self.interval()
        return f"{self.value:.1%} [{least:.1%}, {most:.1%}]"
