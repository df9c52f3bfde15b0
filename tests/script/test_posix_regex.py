"""Expressions mean what they mean to the C library, and take time in proportion to the text."""

from __future__ import annotations

import ctypes
import locale
import re
import time
from collections.abc import Iterator

import pytest
import re2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opensips_py.script.posix_regex import RegexError, compile_characters, compile_dynamic, compile_perl, compile_regex
from opensips_py.script.regex_syntax import DEEPEST

C = ctypes.CDLL(None)
C.regexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int]
GNU = hasattr(C, "gnu_get_libc_version")
needs_gnu = pytest.mark.skipif(not GNU, reason="the C library of this machine is another one")


@pytest.fixture(autouse=True, scope="module")
def bytes_and_nothing_else() -> Iterator[None]:
    """The C library takes bytes for characters, as in a server that sets no locale."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


Spans = list[tuple[int, int]]


def c_library(pattern: str, text: str, newline: bool) -> str | Spans | None:
    """What regcomp and regexec say: an error's text, the spans of match and groups, or None."""
    compiled = ctypes.create_string_buffer(256)
    code = C.regcomp(compiled, pattern.encode("latin-1"), 1 | 2 | (4 if newline else 0))
    if code:
        message = ctypes.create_string_buffer(200)
        C.regerror(code, compiled, message, 200)
        return message.value.decode()
    spans = (ctypes.c_int * 20)()
    found = C.regexec(compiled, text.encode("latin-1"), 10, spans, 0)
    C.regfree(compiled)
    return None if found else [(spans[2 * n], spans[2 * n + 1]) for n in range(10)]


def ours(pattern: str, text: str, newline: bool) -> str | Spans | None:
    try:
        regex = compile_regex(pattern, newline)
    except RegexError as error:
        return error.message
    found = regex.search(text)
    assert (found is not None) == regex.test(text)
    return None if found is None else [found.span(n) if n <= regex.groups else (-1, -1) for n in range(10)]


PIECES = [
    *("a", "b", "ab", "A", "-", "\n", ".", "*", "+", "?", "|", "(", ")", "()", "^", "$", "[", "]", "{", "}", "\\"),
    *("{2}", "{1,2}", "{,2}", "{2,}", "{}", "{x}", "{2,1}", "{0}", "{,}", "{99999}"),
    *("[ab]", "[^a]", "[]a]", "[a-]", "[-a]", "[a-c]", "[z-a]", "[Z-a]", "[_-a]", "[a-c-e]", "[--/]", "[[:alpha:]]", "[[:foo:]]"),
    *("[[:upper:]]", "[[.a.]]", "[[=a=]]", "[[.ab.]]", "[[:alpha:]", "[[:alpha:]-z]", "[\\]", "[^]a]", "[^\n]"),
    *("\\a", "\\d", "\\A", "\\.", "\\n", "\\/", "\\w", "\\W", "\\s", "\\S", "\\b", "\\`", "\\'", "\\|", "\\(", "\\{", "é"),
]
patterns = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
texts = st.text(alphabet="abABc-_ \n.\\]{é", max_size=8)


@needs_gnu
@settings(max_examples=1500)
@given(patterns, texts, st.booleans())
@example("(a?)((ab)?)", "ab", False)
@example("^*", "", False)
def test_expressions_are_read_and_matched_as_by_the_c_library(pattern: str, text: str, newline: bool) -> None:
    # inside an expression that is about one line, the C library lets ^ and $ stand beside a line end nevertheless
    assume(newline or "\n" not in text or not ("^" in pattern[1:] or "$" in pattern[:-1]))
    theirs, found = c_library(pattern, text, newline), ours(pattern, text, newline)
    if isinstance(theirs, list) and isinstance(found, list):
        assert found[0] == theirs[0]  # of groups that may match in several ways the C library has its own choice
    else:
        assert found == theirs


GROUPS = [
    ("^sip:([^@]+)@(.*)$", "sip:1001@example.com"),
    ("(.*)<sip:(.*)@(.*)>(.*)", '"x" <sip:a@b@c>;tag=1'),
    ("([0-9]*)([0-9]{4})", "123456789"),
    ("(.*)(.*)", "ab"),
    ("(a*)*", "aa"),
    ("(a|b)*", "ab"),
    ("((a)|b)*", "ab"),
    ("(a)|b", "b"),
    ("(foo|foobar)(bar)?", "foobar"),
    ("(a|ab)(c|bcd)(d*)", "abcd"),
    ("(\\+?)(49|0049)?([0-9]+)", "+4930123"),
    ("^(00|\\+)([1-9][0-9]*)$", "00491234"),
    ("(^a)|b", "ba"),
]


@needs_gnu
@pytest.mark.parametrize(("pattern", "text"), GROUPS)
def test_groups_are_those_of_the_c_library(pattern: str, text: str) -> None:
    assert ours(pattern, text, False) == c_library(pattern, text, False)


@needs_gnu
@pytest.mark.parametrize("text", ["", "a", "-a", "a-", "foo bar", "foobar", "-", "a b"])
@pytest.mark.parametrize(
    "pattern", ["\\<", "\\>", "\\<a", "a\\>", "\\<[ab]+\\>", "\\<-", "(a)\\1", "(a|b)\\1", "\\<foo\\>", "a\\<", "(.)\\1"]
)
def test_edges_of_words_and_back_references(pattern: str, text: str) -> None:
    theirs, found = c_library(pattern, text, False), ours(pattern, text, False)
    assert (theirs and theirs[0]) == (found and found[0])


ERRORS = {
    "*a": "Invalid preceding regular expression",
    "(?:a)": "Invalid preceding regular expression",
    "a{": "Unmatched \\{",
    "a{x}": "Invalid content of \\{\\}",
    "a{3,1}": "Invalid content of \\{\\}",
    "a{99999}": "Regular expression too big",
    "(": "Unmatched ( or \\(",
    "[a": "Unmatched [, [^, [:, [., or [=",
    "[z-a]": "Invalid range end",
    "[[:foo:]]": "Invalid character class name",
    "[[.ab.]]": "Invalid collation character",
    "a\\": "Trailing backslash",
    "\\1": "Invalid back reference",
}


@pytest.mark.parametrize("pattern", ERRORS)
def test_what_is_no_expression_is_refused_in_the_words_of_the_c_library(pattern: str) -> None:
    assert ours(pattern, "", False) == ERRORS[pattern]


# --- time ------------------------------------------------------------------------------------------------------------------

HOSTILE = [
    ("^From:(.*)<sip:(.*)@(.*)>(.*)$", "From:" + "<sip:@" * 100_000),
    ("^From:(.*)<sip:(.*)@(.*)>(.*)$", "From:" + "<sip:@>" * 10_000),
    ("(.*)@(.*)", "a" * 500_000),
    ("(a|aa)+$", "a" * 500_000 + "b"),
    ("(a*)*b", "a" * 500_000),
    ("x.*y", "x" * 500_000),
    ("([a-z]+)@([a-z]+)", "a" * 500_000),
    ("(x+x+)+y", "x" * 500_000),
    ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 500_000),
    ("[0-9]+[0-9]+[0-9]+x", "1" * 500_000),
    ("(.|\n)*;(.|\n)*;", "a" * 500_000),
]


@pytest.mark.parametrize(("pattern", "text"), HOSTILE)
def test_no_text_takes_longer_than_its_length(pattern: str, text: str) -> None:
    """Half a megabyte: what is not linear takes minutes, or for ever."""
    began = time.process_time()
    regex = compile_regex(pattern)
    regex.search(text)
    regex.test(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "pattern",
    [
        "(a)\\1",
        "(" * (DEEPEST + 1) + ")" * (DEEPEST + 1),
        "((a{1,255}){1,255}){1,255}",
        "(" * 100_000,
        "[" * 100_000,
        "a{1000}{1000}",
        "\\<.",
        "a" * 3000,
        "(a{0,1000}b{0,1000}){0,1000}",
    ],
)
def test_an_expression_that_comes_in_a_variable_is_linear_or_refused(pattern: str) -> None:
    began = time.process_time()
    with pytest.raises(RegexError):
        compile_dynamic(pattern)
    assert time.process_time() - began < 2


def test_repetitions_beyond_the_engines_limits_are_matched_all_the_same() -> None:
    assert compile_regex("^a{2000}$").test("a" * 2000)
    assert not compile_regex("^a{2000}$").test("a" * 1999)


# --- the interface --------------------------------------------------------------------------------------------------------


def test_all_matches_and_their_places() -> None:
    regex = compile_regex("^([a-z]+): *(x)?", newline=True)
    text = "to: x\nfrom: y\n\nbody:"
    assert [(m.start(), m.group(1), m.group(2)) for m in regex.finditer(text)] == [
        (0, "to", "x"),
        (6, "from", None),
        (15, "body", None),
    ]
    assert [m.span() for m in compile_regex("x*").finditer("axa")] == [(0, 0), (1, 2), (2, 2), (3, 3)]
    assert [m.group() for m in compile_regex("^a").finditer("aaa")] == ["a"]
    assert compile_regex("c$").search("abcd", 0, 3) is not None
    assert compile_regex("a").search("abab", 1) is not None
    assert compile_regex("^b").search("ab", 1) is None
    assert compile_regex("B").match("ab") is None
    assert compile_regex("aB?").match("ab") is not None
    assert compile_regex("a").fullmatch("ab") is None
    assert compile_regex("[\xe4-\xf6]+").search("x\xe4\xf6").span() == (1, 3)  # type: ignore[union-attr]


def test_expressions_about_characters() -> None:
    text = "Grüße, €5: ÄÖ"
    assert [m.group() for m in compile_characters("[^ ,:]+").finditer(text)] == ["Grüße", "€5", "ÄÖ"]
    found = compile_characters("([^ ])(\\w)$").search(text[:9])
    assert found is not None and (found.group(1), found.group(2), found.span()) == ("€", "5", (7, 9))
    assert not compile_characters("ä").test(text)
    assert compile_characters("G.ü?ß?e").test("xgrüße")
    assert compile_characters("(ü)\\1").test("xüü")
    assert not compile_characters("\\d").test("d1")


def test_perl_expressions_prefer_the_first_alternative() -> None:
    found = compile_perl("^(\\d{2}?|\\d{4})(.*)$", False).search("12345")
    assert found is not None and [found.group(n) for n in (1, 2)] == ["12", "345"]
    assert compile_perl("(?=a)A", True).test("a")
    assert not compile_perl("A", False).test("a")
    with pytest.raises(RegexError):
        compile_perl("(", False)


def test_what_is_used_of_re2_does_what_it_did() -> None:
    """The public functions wrap each match into objects that cost more than the match; what is used instead is private."""
    options = re2.Options()
    options.encoding, options.longest_match, options.never_capture = re2.Options.Encoding.LATIN1, True, False
    options.max_mem, options.log_errors = 1 << 20, False
    compiled = re2.compile(b"(a|ab)(x)?", options)
    assert compiled.groups == 2
    find = compiled._regexp.Match
    assert list(find(re2._Anchor.UNANCHORED, b"-ab", 0, 3)) == [(1, 3), (1, 3), (-1, -1)]
    assert find(re2._Anchor.UNANCHORED, b"-", 0, 1)[0] == (-1, -1)
    assert re.match(r"\(\?", "(?") is not None
    with pytest.raises(re2.error):
        re2.compile(b"(?=a)", options)
