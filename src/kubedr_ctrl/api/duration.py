"""Durations as people write them in manifests: `90s`, `45m`, `1h30m`."""

import re

DURATION_PATTERN = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> int:
    """Return the number of seconds that `text` stands for; ValueError if it is not a duration."""
    if not text or not re.match(DURATION_PATTERN, text):
        msg = f"{text!r} is not a duration such as 90s, 45m or 1h30m"
        raise ValueError(msg)
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", text))
