"""A wall clock that can be set for a process of the tests, by Debian's libfaketime; its monotonic clock stays true."""

from pathlib import Path

from tests.servers.process import BINARIES, ServerError


class Clock:
    """The wall clock of the processes that run in `environment`."""

    def __init__(self, directory: Path) -> None:
        """The setting is kept in `directory`."""
        setting = self._setting = directory / "clock"
        library = next((BINARIES.parent / "faketime").rglob("libfaketime.so.1"), None)
        if library is None:
            raise ServerError("libfaketime is not in the cache: run 'python -m e2e tools'")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(setting),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        """Set the clock, relative to the true time: `-1h`."""
        self._setting.write_text(offset)
