"""How long to wait before the next try."""

import random
from dataclasses import dataclass

_SHARED = random.Random()


@dataclass(slots=True)
class Backoff:
    """Waits that double from `first` to `limit` seconds, with jitter, until `reset`."""

    first: float
    limit: float
    jitter: float = 0.3
    """Up to this part of a wait is taken off at random, so that many clients do not come back as one."""
    rng: random.Random = _SHARED
    failures: int = 0

    def next(self) -> float:
        """Return the next wait in seconds."""
        wait = min(self.first * 2.0 ** min(self.failures, 30), self.limit)
        self.failures += 1
        return wait * (1 - self.jitter * self.rng.random())

    def reset(self) -> None:
        """Begin anew, as something worked."""
        self.failures = 0
