"""Time recurrences (RFC 2445 4.8.5.4 as CPL, RFC 3880 4.4, uses them) in the notation of OpenSIPS.

``dtstart|dtend|duration|freq|until|interval|byday|bymonthday|byyearday|byweekno|bymonth``; trailing fields may be left
out, empty ones have no effect. Times are ``20260131T093000`` in local time, or with ``Z`` in UTC; durations ``PT8H30M``.

An occurrence begins, at dtstart's time of day, on each day that all rules allow, and lasts from there as long as from
dtstart to dtend (or for the duration). Without freq there is one, at dtstart; without an end it is open.
"""

from __future__ import annotations

import datetime
import re

DAY = 86400
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_FREQUENCIES = ("daily", "weekly", "monthly", "yearly")


class RecurrenceError(ValueError):
    """The text is not a time recurrence."""


def matches(text: str, now: float) -> bool:
    """Whether ``now`` (Unix time) lies in the recurrence."""
    fields = [field.strip() for field in text.split("|")]
    if len(fields) > 11:
        raise RecurrenceError(f"{len(fields)} fields, there are at most 11")
    dtstart, dtend, length, freq, until, interval, *by = fields + [""] * (11 - len(fields))
    if not dtstart:
        raise RecurrenceError("dtstart is missing")
    start = _point(dtstart)
    if now < start:
        return False
    duration = _point(dtend) - start if dtend else _length(length)
    if not freq:
        return duration is None or now < start + duration
    if freq.lower() not in _FREQUENCIES:
        raise RecurrenceError(f"freq is [{freq}]; it may be daily, weekly, monthly or yearly")
    if until and now > _point(until) + (DAY - 1 if "T" not in until else 0):
        return False
    step = int(interval) if interval.isdecimal() else 1
    rules = _Rules(freq.lower(), max(1, step), datetime.datetime.fromtimestamp(start), by)
    if duration is None:
        duration = DAY - (rules.first - rules.first.replace(hour=0, minute=0, second=0)).seconds
    day = datetime.datetime.fromtimestamp(now)
    for back in range(duration // DAY + 2):
        begin = datetime.datetime.combine(day.date() - datetime.timedelta(days=back), rules.first.time())
        at = begin.timestamp()
        if start <= at <= now < at + duration and rules.allow(begin.date()):
            return True
    return False


def _length(text: str) -> int | None:
    """Seconds; None: no end. As in OpenSIPS, a text that is not a duration means no end too."""
    try:
        return _duration(text) if text else None
    except RecurrenceError:
        return None


class _Rules:
    """Which days an occurrence may begin on."""

    def __init__(self, freq: str, step: int, first: datetime.datetime, by: list[str]) -> None:
        self.freq, self.step, self.first = freq, step, first
        self.byday = [_weekday(item) for item in by[0].split(",") if item.strip()]
        self.bymonthday, self.byyearday, self.byweekno, self.bymonth = (_numbers(item) for item in by[1:])

    def allow(self, day: datetime.date) -> bool:
        return self._period(day) and self._by(day)

    def _period(self, day: datetime.date) -> bool:
        first = self.first.date()
        if self.freq == "daily":
            return (day - first).days % self.step == 0
        if self.freq == "weekly":
            monday = first - datetime.timedelta(days=first.weekday())
            return (day - monday).days // 7 % self.step == 0 and (bool(self.byday) or day.weekday() == first.weekday())
        if self.freq == "monthly":
            months = (day.year - first.year) * 12 + day.month - first.month
            return months % self.step == 0 and (bool(self.byday or self.bymonthday) or day.day == first.day)
        if (day.year - first.year) % self.step:
            return False
        if self.byday or self.bymonthday or self.byyearday or self.byweekno:
            return True
        return day.day == first.day and (bool(self.bymonth) or day.month == first.month)

    def _by(self, day: datetime.date) -> bool:
        days = _days_of_month(day)
        year = datetime.date(day.year, 12, 31).timetuple().tm_yday
        weeks = datetime.date(day.year, 12, 28).isocalendar().week
        return (
            (not self.bymonth or day.month in self.bymonth)
            and _among(self.bymonthday, day.day, days)
            and _among(self.byyearday, day.timetuple().tm_yday, year)
            and _among(self.byweekno, day.isocalendar().week, weeks)
            and (not self.byday or any(self._is(day, which, days, year) for which in self.byday))
        )

    def _is(self, day: datetime.date, which: tuple[int, int], days: int, year: int) -> bool:
        number, weekday = which
        if day.weekday() != weekday:
            return False
        if number == 0 or self.freq in ("daily", "weekly"):
            return True
        at, size = (day.timetuple().tm_yday, year) if self.freq == "yearly" and not self.bymonth else (day.day, days)
        return (at - 1) // 7 + 1 == number if number > 0 else (size - at) // 7 + 1 == -number


def _among(numbers: list[int], value: int, size: int) -> bool:
    return not numbers or value in numbers or value - size - 1 in numbers


def _days_of_month(day: datetime.date) -> int:
    following = day.replace(day=28) + datetime.timedelta(days=4)
    return (following - datetime.timedelta(days=following.day)).day


def _point(text: str) -> int:
    for form in ("%Y%m%dT%H%M%S", "%Y%m%d"):
        try:
            moment = datetime.datetime.strptime(text.removesuffix("Z"), form)
        except ValueError:
            continue
        return int((moment.replace(tzinfo=datetime.UTC) if text.endswith("Z") else moment).timestamp())
    raise RecurrenceError(f"[{text}] is not a time like 20260131T093000")


def _duration(text: str) -> int:
    parts = re.fullmatch(r"\+?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", text)
    if parts is None:
        raise RecurrenceError(f"[{text}] is not a duration like PT8H30M")
    return sum(int(part or 0) * unit for part, unit in zip(parts.groups(), (7 * DAY, DAY, 3600, 60, 1), strict=True))


def _numbers(text: str) -> list[int]:
    try:
        return [int(item) for item in text.split(",") if item.strip()]
    except ValueError:
        raise RecurrenceError(f"[{text}] is not a list of numbers") from None


def _weekday(text: str) -> tuple[int, int]:
    item = text.strip().upper()
    number = item[:-2] or "0"
    if item[-2:] not in _WEEKDAYS or not re.fullmatch(r"[+-]?\d+", number):
        raise RecurrenceError(f"[{text}] is not a day of the week")
    return int(number), _WEEKDAYS.index(item[-2:])
