"""How findings look, and what happens to text before it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensips_py.script import program
from opensips_py.script.diagnostics import ScriptErrors
from tests.script.script_runner import FIRST, HEAD, Run, Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_error_shows_place_line_caret_and_way_out(scripts: Scripts) -> None:
    with pytest.raises(ScriptErrors) as caught:
        scripts.load("route {\n\troute(resume_credti);\n}\nroute[resume_credit] { exit; }\n")
    path = scripts.path
    assert caught.value.render() == (
        f"CRITICAL:core:yyerror: parse error in {path}:{FIRST + 1}:8-21: route [resume_credti] is not defined\n"
        f"{path}:{FIRST + 1}:8: error: route [resume_credti] is not defined\n"
        "     route(resume_credti);\n"
        "           ^~~~~~~~~~~~~\n"
        '    did you mean "resume_credit"?\n'
        "1 error"
    )


def test_findings_come_in_the_order_of_the_script(scripts: Scripts) -> None:
    found = scripts.say("route {\nfoo_one();\n$avpp(x) = 1;\nfoo_two();\n}\nroute[a] {\nfoo_three();\n}\n")
    assert [line for line, _, _ in found] == [2, 3, 4, 7]


def test_included_file_keeps_its_lines(scripts: Scripts) -> None:
    (scripts.directory / "more.cfg").write_text("route[more] {\n  foo_bar();\n}\n")
    found = scripts.findings('include_file "more.cfg"\nroute {\n  foo_baz();\n}\n')
    assert [(d.file.rpartition("/")[2], d.line) for d in found] == [("opensips.cfg", FIRST + 2), ("more.cfg", 2)]


def test_included_file_that_is_missing(scripts: Scripts) -> None:
    found = scripts.findings('route { exit; }\n import_file "nosuch.cfg"\n')
    assert [(d.line, d.message) for d in found] == [(FIRST + 1, 'cannot open included file "nosuch.cfg"')]


def test_inclusion_in_a_comment_does_not_count(scripts: Scripts) -> None:
    assert scripts.say('/*\ninclude_file "nosuch.cfg"\n*/\n#include_file "x"\nroute { exit; }\n') == []


def test_file_that_includes_itself(scripts: Scripts) -> None:
    assert "includes itself" in scripts.say('include_file "opensips.cfg"\nroute { exit; }\n')[0][2]


def test_preprocessor_keeps_files_and_lines(scripts: Scripts) -> None:
    text = "route {\n  WHAT();\n}\n"
    found = scripts.findings(text, preprocessor="sed -e s/WHAT/foo_bar/ -e '/^socket/i # more\\n# lines'")
    assert [(d.line, d.message) for d in found] == [(FIRST + 1, "unknown command <foo_bar>, missing loadmodule?")]


def test_preprocessor_that_fails(scripts: Scripts) -> None:
    assert "failed with exit status" in scripts.findings("route { exit; }\n", preprocessor="false")[0].message
    assert "cannot run the preprocessor" in scripts.findings("route { exit; }\n", preprocessor="/nonexistent")[0].message


def test_script_that_cannot_be_read() -> None:
    with pytest.raises(ScriptErrors, match=r"cannot read /nonexistent\.cfg"):
        program.load("/nonexistent.cfg")


def test_bytes_of_the_script_are_kept(scripts: Scripts) -> None:
    scripts.path.write_bytes(HEAD.encode() + b'route { xlog("\xc3\xa9\xff"); }\n')
    loaded = program.load(str(scripts.path))
    assert Run(scripts, loaded).runtime.lines == ["\xc3\xa9\xff"]


@pytest.mark.parametrize("wrong", ["if (foo_bar()) exit;", "if (1) foo_bar();", "if (1 ==) exit;"])
@pytest.mark.parametrize("otherwise", ["exit;", "{ exit; }", "if ($rm) exit; else exit;"])
def test_the_else_of_a_wrong_if_is_no_error_of_its_own(scripts: Scripts, wrong: str, otherwise: str) -> None:
    found = scripts.findings(f"route {{\n{wrong}\nelse {otherwise}\nfoo_baz();\n}}\n")
    assert [d.line - found[0].line for d in found] == [0, 2], [d.message for d in found]
