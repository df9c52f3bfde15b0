"""Flags of functions by name, as since OpenSIPS 3.2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from opensips_py.modules.nathelper.detect import TESTS
from opensips_py.modules.nathelper.repair import CHANGES
from opensips_py.modules.registrar.lookup import LOOKUP_FLAGS, read_flags
from opensips_py.modules.registrar.save import SAVE_FLAGS
from opensips_py.modules.registrar.save import read_flags as read_save_flags
from opensips_py.modules.tm.functions import RELAY_FLAGS
from tests.script.script_runner import Scripts

MODULE = """
from typing import Annotated
from opensips_py.script.declarations import ALL, Module
from opensips_py.script.flag_words import FlagWord, FlagWords

MASK = FlagWords(FlagWord("one-flag", 1, "one"), FlagWord("two-flag", 2, "two"), FlagWord("four", 4, "four"))
LETTERS = FlagWords(FlagWord("aa-flag", "a", "a"), FlagWord("count", "c", "c", "N"), FlagWord("plain", "p0", "p"))
module = Module("flagged", doc="functions with flags")

@module.function(routes=ALL)
def sum_of(ctx, flags: Annotated[int, "mask", MASK] | None = None, text: str | None = None) -> int:
    return (flags or 0) + 100

@module.function(routes=ALL)
def letters_of(ctx, flags: Annotated[str, "letters", LETTERS] | None = None) -> int:
    seen.append(flags)
    return 1

seen = []
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    made = Scripts(tmp_path)
    (tmp_path / "flagged.py").write_text(MODULE)
    return made


def _run(scripts: Scripts, body: str) -> list[str]:
    return scripts.run(f'loadmodule "flagged.py"\nroute {{\n{body}\n}}\n').runtime.lines


@pytest.mark.parametrize(
    ("flags", "mask"),
    [
        ("5", 5),
        ('"one-flag"', 1),
        ('"one-flag,four"', 5),
        ('" two-flag , one-flag "', 3),
        ("$var(none)", 0),
        ("$var(names)", 6),
        ("$var(number)", 3),
        ("$avp(names)", 2),
        ("", 0),
    ],
)
def test_a_sum_may_be_given_by_name(scripts: Scripts, flags: str, mask: int) -> None:
    given = '$var(names) = "two-flag,four"; $var(number) = 3; $var(none) = ""; $avp(names) = "two-flag";'
    assert _run(scripts, f'{given} sum_of({flags}); xlog("$rc");') == [str(mask + 100)]


@pytest.mark.parametrize("value", ['"two-falg"', "NULL", '"3"'])
def test_a_variable_that_holds_no_flags_makes_the_call_fail(scripts: Scripts, value: str) -> None:
    assert _run(scripts, f'$var(x) = {value}; sum_of($var(x)); xlog("$rc");') == ["-1"]


@pytest.mark.parametrize(
    ("flags", "letters"),
    [
        ('"aa-flag,count=5,plain"', "ac5p0"),
        ('"ac5"', "ac5"),
        ('"plain"', "p0"),
        ('"count=5"', "c5"),
        ("$var(names)", "ap0"),
        ('"$var(names)"', "ap0"),
        ('"$var(old)"', "ac3"),
    ],
)
def test_letters_may_be_given_by_name(scripts: Scripts, flags: str, letters: str) -> None:
    body = f'$var(names) = "aa-flag,plain"; $var(old) = "ac3"; letters_of({flags});'
    _run(scripts, body)
    assert sys.modules["opensips_py_user_module_flagged"].seen == [letters]


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        ('sum_of("one-falg")', 'Param [1]: "one-falg" is not a flag', 'did you mean "one-flag"?'),
        ('sum_of("one-flag,zzz")', '"zzz" is not a flag', "flags are one-flag, two-flag, four"),
        ('sum_of("")', "Param [1] expected to be an integer or variable", "write 0"),
        ('sum_of("3")', "Param [1] expected to be an integer or variable", "write 3"),
        ('sum_of("$var(x)")', "Param [1] expected to be an integer or variable", "write $var(x) without quotes"),
        ('sum_of("one-flag=2")', "the flag one-flag takes no value", None),
        ('letters_of("aa-flga")', '"aa-flga" is not a flag', 'did you mean "aa-flag"?'),
        ('letters_of("count")', "the flag count is written count=N", None),
        ('letters_of("aa-flag,x-flag")', '"x-flag" is not a flag', None),
    ],
)
def test_a_wrong_name_is_found_when_the_script_is_read(scripts: Scripts, call: str, message: str, hint: str | None) -> None:
    found = scripts.findings(f'loadmodule "flagged.py"\nroute {{\n{call};\n}}\n')
    assert len(found) == 1, found
    assert message in found[0].message
    if hint is not None:
        assert hint in str(found[0].hint)


def test_a_number_where_flags_have_no_names_says_so(scripts: Scripts) -> None:
    found = scripts.findings('route {\ngive("no-auto-477");\n}\n')
    assert "names of flags came with OpenSIPS 3.2" in str(found[0].hint)


def test_flags_of_modules_by_name_mean_the_old_ones() -> None:
    assert TESTS.mask_of("private-contact,diff-ip-src-via,private-via,private-sdp") == 15
    assert TESTS.mask_of("diff-port-src-via,diff-ip-src-contact,diff-port-src-contact,carrier-grade-nat") == 240
    assert CHANGES.mask_of("add-dir-active,rewrite-media-ip,add-no-rtpproxy,rewrite-origin-ip,rewrite-null-ips") == 31
    assert RELAY_FLAGS.mask_of("no-auto-477,no-dns-failover,pass-reason-hdr,allow-no-cancel") == 30
    assert SAVE_FLAGS.letters_of("memory-only,no-reply,max-contacts=3,force-registration") == "mrc3f"
    assert SAVE_FLAGS.letters_of("min-expires=60,max-expires=90,path-strict,path-received,socket-header") == "e60E90p2vs"
    assert LOOKUP_FLAGS.letters_of("method-filtering,ua-filtering=/a,b/i,no-branches") == "mu/a,b/ib"


def test_save_and_lookup_read_what_the_names_mean() -> None:
    flags = read_save_flags(SAVE_FLAGS.letters_of("max-contacts=2,force-registration,path-lazy"))
    assert (flags.max_contacts, flags.force, flags.path, flags.reply) == (2, True, 1, True)
    read = read_flags(LOOKUP_FLAGS.letters_of("branch,ua-filtering=/Phone/i"))
    assert read is not None
    assert read.of_branches
    assert not read.no_branches
    assert read.user_agent is not None and read.user_agent.search("a phone")
