"""Rules: which string they match, and what they make of it.

Match and substitution expressions are Perl-compatible regular expressions; Python's ``re`` reads what dial plans use of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from opensips_py.core.time_recurrence import RecurrenceError, matches
from opensips_py.script.context import Context
from opensips_py.script.posix_regex import Regex, RegexError, compile_perl
from opensips_py.script.substitution import Part, SubstitutionError, parse_replacement
from opensips_py.script.variables import Registry
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

EQUAL, REGEX = 0, 1
IGNORE_CASE = 1
"""Bit of ``match_flags``."""


class Row(msgspec.Struct, array_like=True):
    """A rule as it stands in the table."""

    dpid: int
    pr: int
    match_op: int
    match_exp: str
    match_flags: int
    subst_exp: str
    repl_exp: str
    attrs: str
    timerec: str
    disabled: int


class BadRule(ValueError):
    """A row that is not a rule; the text says why."""


@dataclass(slots=True)
class Rule:
    """A rule, ready to match."""

    row: Row
    equal: str | None
    """The string to be equal to; None: ``match`` decides."""
    match: Regex | None
    subst: Regex | None
    parts: list[Part] | None
    """The replacement; None: there is none."""

    def fits(self, text: str, now: float) -> bool:
        """Whether the rule is for this string, at this time."""
        if self.match is not None:
            if not self.match.test(text):
                return False
        elif (text.lower() if self.row.match_flags & IGNORE_CASE else text) != self.equal:
            return False
        return not self.row.timerec or matches(self.row.timerec, now)

    def translate(self, ctx: Context, text: str) -> str | None:
        """What the replacement makes of the string; None when the substitution expression does not match it.

        Of the string only what the replacement takes over (``\\1``) is kept; without replacement it stays as it is.
        """
        if self.parts is None:
            return text
        found = None if self.subst is None else self.subst.search(text)
        if self.subst is not None and found is None:
            return None
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, int):
                out.append((found.group(part) or "") if found is not None else f"\\{part}")
            else:
                value = part(ctx)
                out.append("" if value is None else str(value))
        return "".join(out)


def _pattern(text: str, flags: int) -> Regex:
    try:
        return compile_perl(text, bool(flags & IGNORE_CASE))
    except RegexError as error:
        raise BadRule(f"bad regular expression {text!r}: {error}") from None


def compile_rule(row: Row, registry: Registry) -> Rule:
    """Make a rule of a row; raises BadRule."""
    if row.match_op not in (EQUAL, REGEX):
        raise BadRule(f"match_op is {row.match_op}; it is 0 (equal) or 1 (regular expression)")
    if row.timerec:
        try:
            matches(row.timerec, this.clock.wall())
        except RecurrenceError as error:
            raise BadRule(f"timerec {row.timerec!r}: {error}") from None
    match = _pattern(row.match_exp, row.match_flags) if row.match_op == REGEX else None
    equal = row.match_exp.lower() if row.match_flags & IGNORE_CASE else row.match_exp
    subst = _pattern(row.subst_exp, row.match_flags) if row.subst_exp else None
    parts = None
    if row.repl_exp:
        try:
            parts = parse_replacement(row.repl_exp, registry)
        except SubstitutionError as error:
            raise BadRule(f"repl_exp {row.repl_exp!r}: {error}") from None
        groups = max((part for part in parts if isinstance(part, int)), default=0)
        if subst is not None and groups > subst.groups:
            raise BadRule(f"repl_exp {row.repl_exp!r} uses group {groups}, subst_exp {row.subst_exp!r} has {subst.groups}")
    return Rule(row, None if match else equal, match, subst, parts)


class RuleSet:
    """The rules of one partition, by dpid in order of priority. Rules of equality come before those of the same priority."""

    def __init__(self, rows: list[Row], registry: Registry, partition: str) -> None:
        self._by_id: dict[int, list[Rule]] = {}
        for row in sorted(rows, key=lambda row: (row.pr, row.match_op)):
            if row.disabled:
                continue
            try:
                self._by_id.setdefault(row.dpid, []).append(compile_rule(row, registry))
            except BadRule as error:
                log(ERROR, "dialplan", "build_rule", f"partition {partition}, dpid {row.dpid}: rule left out: {error}")

    def __contains__(self, dpid: int) -> bool:
        return dpid in self._by_id

    def find(self, dpid: int, text: str) -> Rule | None:
        """The first rule that fits."""
        now = this.clock.wall()
        for rule in self._by_id.get(dpid, ()):
            if rule.fits(text, now):
                return rule
        return None
