"""When a CronJob's schedule is due, as Kubernetes reads it (github.com/robfig/cron/v3, `ParseStandard`).

A schedule of five fields is due at each whole minute whose local time matches: a time that the clock skips as summer
begins does not come, one that it repeats as summer ends comes twice. `@every` counts from the last time.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HORIZON = 5 * 366
"""Days after which a schedule counts as one that is never due, such as the 31st of February."""


@dataclass(frozen=True)
class Schedule:
    """Made by `parse_schedule`."""

    zone: ZoneInfo
    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    """0 is Sunday."""
    any_day: bool = False
    """Whether one of the two fields of days is a star: then both have to match, otherwise either."""
    every: timedelta | None = None

    def next(self, after: datetime) -> datetime | None:
        """Return the first time later than `after`, in UTC; None if there is none within five years."""
        if self.every:
            return after.astimezone(UTC).replace(microsecond=0) + self.every
        today = after.astimezone(self.zone).date()
        for day in (today + timedelta(days=days) for days in range(_HORIZON)):
            if self._matches(day) and (found := min(self._times(day, after), default=None)):
                return found
        return None

    def _matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month and of_week if self.any_day else of_month or of_week

    def _times(self, day: date, after: datetime) -> list[datetime]:
        """Return the times of one local day that are later than `after`, those that come twice included."""
        local = (
            datetime(day.year, day.month, day.day, hour, minute, fold=fold, tzinfo=self.zone)
            for hour in self.hours
            for minute in self.minutes
            for fold in (0, 1)
        )
        there = ((time, time.astimezone(UTC)) for time in local)
        return [
            utc
            for time, utc in there
            if utc > after and utc.astimezone(self.zone).replace(tzinfo=None) == time.replace(tzinfo=None)
        ]


def parse_schedule(text: str, time_zone: str = "") -> Schedule:
    """Return the schedule; without a time zone it is UTC's, as kube-controller-manager's usually is.

    ValueError where Kubernetes would not accept it.
    """
    try:
        zone = ZoneInfo(time_zone or "UTC")
    except (ZoneInfoNotFoundError, OSError) as error:
        msg = f"unknown time zone {time_zone!r}"
        raise ValueError(msg) from error
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(zone, every=_duration(text.removeprefix("@every ").strip()))
    fields = _MACROS.get(text, text).split()
    if len(fields) != 5:
        msg = f"not five fields: {text!r}"
        raise ValueError(msg)
    minutes, hours, days, months, weekdays = fields
    return Schedule(
        zone,
        minutes=_field(minutes, 0, 59),
        hours=_field(hours, 0, 23),
        days=_field(days, 1, 31),
        months=_field(months, 1, 12, _MONTHS),
        weekdays=_field(weekdays, 0, 6, _DAYS),
        any_day=_is_star(days) or _is_star(weekdays),
    )


def _is_star(field: str) -> bool:
    return any(re.fullmatch(r"[*?](/1)?", part) for part in field.split(","))


def _field(field: str, least: int, most: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    return frozenset(number for part in field.split(",") for number in _range(part, least, most, names))


def _range(part: str, least: int, most: int, names: tuple[str, ...]) -> range:
    match = re.fullmatch(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
    if not match:
        msg = f"not a number, range or star: {part!r}"
        raise ValueError(msg)
    first, last, step = match.groups()

    def number(word: str) -> int:
        return names.index(word.lower()) + least if word.lower() in names else int(word)

    low = number(first) if first else least
    high = number(last) if last else low if first and not step else most
    if not least <= low <= high <= most or step == "0":
        msg = f"out of range: {part!r}"
        raise ValueError(msg)
    return range(low, high + 1, int(step or 1))


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)", text)
    if not parts or "".join(map("".join, parts)) != text:
        msg = f"not a duration: {text!r}"
        raise ValueError(msg)
    return timedelta(seconds=max(1, int(sum(float(number) * _UNITS[unit] for number, unit in parts))))
