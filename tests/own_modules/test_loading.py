"""Finding a user's module, and saying what is wrong with it and where."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from opensips_py.script import program
from opensips_py.script.diagnostics import Diagnostic, ScriptErrors
from opensips_py.script.modules import available
from tests.own_modules.conftest import OWN, Own

FIRST = OWN.count("\n") + 1


def wrong(own: Own, text: str) -> Diagnostic:
    """The first error of a script."""
    with pytest.raises(ScriptErrors) as found:
        own.start(text)
    return found.value.errors[0]


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("def f(:\n", 0, "SyntaxError: invalid syntax"),
        ("\nimport no_such_package\n", 1, "No module named 'no_such_package'"),
        ("value = 1 / 0\n", 0, "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", 0, "SystemExit: 3"),
        ("@module.function\ndef f(x: float):\n    return 1\n", 0, "f(): parameter x has the type float"),
        ("@module.function\ndef f(x: Out[float]):\n    return 1\n", 0, "f(): parameter x has the type"),
        ("@module.function\ndef f(x):\n    return 1\n", 0, "f(): parameter x has no type annotation"),
        ("@module.function\ndef f(*x: str):\n    return 1\n", 0, "f(): parameter x cannot be given by a script"),
        ("@module.function\ndef f(x: Nothing):\n    return 1\n", 0, "name 'Nothing' is not defined"),
        ("@module.function\ndef f(x: Var):\n    return 1\n", 0, "take str or int to read, Out[str]"),
        ("@module.blocking\ndef f(ctx: Context):\n    return 1\n", 0, "f() runs beside the script and gets no Context"),
        ("@module.function\nasync def f(ctx: Context):\n    return 1\n", 0, "f() runs beside the script and gets no Context"),
        ("@module.blocking\nasync def f():\n    return 1\n", 0, "f() is async: declare it with @own.function"),
        ("@module.function\ndef f(): ...\n@module.blocking\ndef f(): ...\n", 2, "f() is declared twice"),
        ("x = module.param('x', float, 1.5)\n", 0, "scripts have int and str"),
        ("module.param('x', int, 1)\nmodule.param('x', int, 1)\n", 1, "parameter x is declared twice"),
    ],
)
def test_a_mistake_in_a_module_is_reported_where_it_is_loaded_and_names_its_line(
    own: Own, code: str, line: int, words: str
) -> None:
    path = own.write(code)
    error = wrong(own, 'route { exit; }\nloadmodule "own.py"\n')
    assert (error.line, error.column) == (2, 1)
    assert f"failed to load module own.py: {path}:{FIRST + line}: " in error.message
    assert words in error.message


def test_a_missing_package_is_named_with_the_interpreter_that_lacks_it(own: Own) -> None:
    own.write("import no_such_package.deep\n")
    error = wrong(own, 'loadmodule "own.py"\nroute { exit; }')
    assert error.hint == f"a package that it needs is not installed where the server runs ({sys.executable}): no_such_package"


def test_a_file_without_module_says_what_is_missing(own: Own) -> None:
    own.write("x = 1\n", head="")
    error = wrong(own, 'loadmodule "own.py"\nroute { exit; }')
    assert (error.message, error.hint) == (
        "own.py declares no module",
        "it needs an attribute module = Module(name, doc=...)",
    )


def test_a_missing_file_is_told(own: Own) -> None:
    assert wrong(own, 'loadmodule "none.py"\nroute { exit; }').message == "failed to load module none.py"


def test_a_broken_module_is_repaired_and_loaded_again(own: Own) -> None:
    own.write("1 / 0\n")
    wrong(own, 'loadmodule "own.py"\nroute { exit; }')
    own.write("@module.function\ndef f():\n    return 4\n")
    assert own.start('loadmodule "own.py"\nroute { f(); $avp(rc) = $rc; }').request()["$avp(rc)"] == 4


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@module.function\ndef isflagset():\n    return 1\n", "function isflagset() is one of module core"),
        ("@module.blocking\ndef exec():\n    return 1\n", "function exec() is one of module exec"),
        ("@module.function\ndef xlog():\n    return 1\n", "xlog is a word of the language"),
        ("@module.variable('ru')\ndef ru(ctx, a, i):\n    return 1\n", "variable $ru exists already"),
    ],
)
def test_names_that_are_taken_are_refused(own: Own, code: str, words: str) -> None:
    own.write(code)
    error = wrong(own, 'loadmodule "exec.so"\nloadmodule "own.py"\nroute { exit; }')
    assert words in error.message


def test_two_modules_of_one_name_are_refused(own: Own) -> None:
    own.write("")
    own.write("", "other.py")
    error = wrong(own, 'loadmodule "own.py"\nloadmodule "other.py"\nroute { exit; }')
    assert (error.line, error.message) == (2, "there is a module own already")


def test_modparam_uses_the_name_that_the_module_gives_itself(own: Own) -> None:
    code = 'size = module.param("size", int, 1)\n@module.function\ndef f():\n    return size.value\n'
    script = own.script(code, 'modparam("own", "size", 9)\nroute { f(); $avp(rc) = $rc; }', "another_name.py")
    assert script.request()["$avp(rc)"] == 9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_two_modules_of_the_server_have_functions_or_variables_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "all.cfg"
    path.write_text("socket=udp:127.0.0.1:5060\n" + "".join(f'loadmodule "{n}.so"\n' for n in available()) + "route { exit; }")
    try:
        program.load(str(path))
    except ScriptErrors as found:  # some need parameters that this script does not set
        assert not [error.message for error in found.errors if "loaded" in error.message or "failed to load" in error.message]


# --- installed packages ---------------------------------------------------------------------------------------------

FUNCTION = "@module.function\ndef packaged():\n    return 6\n"


def install(
    directory: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry: str, distribution: str = "sip_own", head: str = OWN
) -> None:
    """What pip leaves in ``directory``: a package and its dist-info with the entry points."""
    package = directory / distribution
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "opensips.py").write_text(head + code)
    info = directory / f"{distribution}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[opensips_py.modules]\n{entry}\n")
    for name in [n for n in sys.modules if n.split(".")[0] == distribution]:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(directory))


@pytest.mark.parametrize("written", ["own.so", "own"])
@pytest.mark.parametrize("target", ["sip_own.opensips:module", "sip_own.opensips"])
def test_a_module_of_an_installed_package_is_loaded_by_its_name(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, target: str
) -> None:
    install(tmp_path / "site", monkeypatch, FUNCTION, f"own = {target}")
    script = own.start(f'loadmodule "{written}"\nroute {{ packaged(); $avp(rc) = $rc; }}')
    assert script.request()["$avp(rc)"] == 6


def test_the_server_s_own_module_wins(own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, "1 / 0\n", "exec = sip_own.opensips:module")
    own.start('loadmodule "exec.so"\nroute { exec("true"); }')


def test_a_broken_package_is_named_with_its_version_and_the_line(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, "1 / 0\n", "own = sip_own.opensips:module")
    error = wrong(own, 'loadmodule "own.so"\nroute { exit; }')
    assert error.message == (
        "failed to load module own of package sip-own 1.2 (sip_own.opensips:module): "
        f"{tmp_path}/site/sip_own/opensips.py:{FIRST}: ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sip_own.opensips:other", "AttributeError: module 'sip_own.opensips' has no attribute 'other'"),
        ("sip_own.nothing:module", "ModuleNotFoundError: No module named 'sip_own.nothing'"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_told(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    install(tmp_path / "site", monkeypatch, "", f"own = {target}")
    error = wrong(own, 'loadmodule "own.so"\nroute { exit; }')
    assert words in error.message
    assert "sip-own 1.2" in error.message


def test_two_packages_with_the_same_module_are_refused(own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "one", monkeypatch, FUNCTION, "own = sip_own.opensips:module")
    install(tmp_path / "two", monkeypatch, FUNCTION, "own = sip_too.opensips:module", "sip_too")
    error = wrong(own, 'loadmodule "own.so"\nroute { exit; }')
    assert error.message == "module own is offered by several packages: sip-own 1.2 and sip-too 1.2"


def test_a_mistyped_name_is_compared_with_installed_modules_too(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, FUNCTION, "customers = sip_own.opensips:module")
    assert wrong(own, 'loadmodule "customer.so"\nroute { exit; }').hint == 'did you mean "customers"?'
