"""How long things took: counts by bucket, as a Prometheus histogram wants them."""

from bisect import bisect_left
from dataclasses import dataclass, field

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets."""


@dataclass
class Distribution:
    """Observations in seconds, in buckets of `SECONDS`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    """One for each bound, and one for what is beyond them."""
    total: float = 0.0
    """Sum of all observations."""

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds
