"""The command line is that of OpenSIPS 3.1."""

from __future__ import annotations

import pytest

from scripts.command_line_page import PAGE, page
from workers.options import OPTIONS, UsageError, parse_command_line, usage


def test_every_option_of_opensips_is_accepted() -> None:
    values = {"o": "a=b", "n": "2", "N": "2", "b": "65536", "m": "64"}
    for letter in "fcClnNrRvdDFEbmMakswtugpPGWoVh":
        option = next(o for o in OPTIONS if o.letter == letter)
        parse_command_line([f"-{letter}", values.get(letter, "x")] if option.value else [f"-{letter}"])


def test_short_options_may_be_combined() -> None:
    options = parse_command_line(["-FEf", "my.cfg", "-ddn4"])
    assert options.foreground and options.log_stderr
    assert (options.config, options.debug_level, options.udp_workers) == ("my.cfg", 2, 4)


def test_listen_and_argv_may_be_repeated() -> None:
    options = parse_command_line(["-l", "udp:127.0.0.1:5060", "-l", "[::1]:5070", "-o", "a=1", "-o", "b=x=y"])
    assert options.listen == ["udp:127.0.0.1:5060", "[::1]:5070"]
    assert options.argv == {"a": "1", "b": "x=y"}


def test_debug_mode_stays_in_the_foreground_and_logs_to_stderr() -> None:
    options = parse_command_line(["-D"])
    assert options.debug_mode and options.foreground and options.log_stderr


def test_check_all_is_a_check() -> None:
    assert parse_command_line(["-C"]).check
    assert not parse_command_line(["-c"]).check_all


@pytest.mark.parametrize("words", [["-M", "8"], ["-a", "F_MALLOC"], ["-W", "epoll"], ["-r"], ["-R"], ["-v"]])
def test_an_option_without_sense_here_is_accepted_and_said(words: list[str]) -> None:
    options = parse_command_line([*words, "-f", "x"])
    assert options.config == "x"
    assert len(options.notices) == 1 and f"option {words[0]} has no effect" in options.notices[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-x"], "Unknown option `-x'."),
        (["-Fx"], "Unknown option `-x'."),
        (["-f"], "Option `-f' requires an argument."),
        (["-n", "many"], "bad process number: -n many"),
        (["-n", "0"], "bad process number: -n 0"),
        (["-o", "novalue"], "bad -o parameter: novalue, expected name=value"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_reason(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_command_line(words)
    assert str(raised.value) == text


def test_usage_names_every_option() -> None:
    text = usage("opensips-py")
    assert all(f"\n    {option.form} " in text for option in OPTIONS)


def test_manual_page_lists_the_options_as_they_are_declared() -> None:
    assert PAGE.read_text() == page(), "run python -m scripts.command_line_page"
