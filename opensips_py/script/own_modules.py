"""Modules that are not the server's: a Python file that a script names, or an installed package that offers one.

A package offers a module by an entry point of the group ``opensips_py.modules``, which names a :class:`Module` object or a
Python module that has it as ``module``. A mistake in it is reported where the script loads it, and names its own place.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from importlib.metadata import EntryPoint
from pathlib import Path
from types import TracebackType
from typing import Any

import opensips_py
from opensips_py.script import ast
from opensips_py.script.declarations import Module
from opensips_py.script.diagnostics import Findings

GROUP = "opensips_py.modules"
"""Group of entry points under which packages offer modules."""
_SERVER = str(Path(opensips_py.__file__).parent) + os.sep
_PYTHON = sysconfig.get_path("stdlib") + os.sep


def from_file(node: ast.LoadModule, name: str, mpath: str, findings: Findings) -> Module | None:
    """The module in a file. A relative path is looked up in ``mpath``, beside the script, in the working directory."""
    places = [mpath, os.path.dirname(node.file), ""]
    path = next((p for p in (os.path.join(place, node.path) for place in places) if os.path.isfile(p)), None)
    if path is None:
        hint = "there is no such file in mpath, beside the script or in the working directory"
        findings.error(node, f"failed to load module {node.path}", hint)
        return None
    path = os.path.abspath(path)  # the server changes its directory
    known = f"opensips_py_user_module_{name}"
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        findings.error(node, f"failed to load module {node.path}")
        return None
    loaded = importlib.util.module_from_spec(spec)
    before = sys.modules.get(known)
    sys.modules[known] = loaded
    try:
        spec.loader.exec_module(loaded)
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[known]
        else:
            sys.modules[known] = before
        findings.error(node, f"failed to load module {node.path}: {describe(error)}", _advice(error))
        return None
    return declared(loaded, node, findings)


def from_package(node: ast.LoadModule, name: str, findings: Findings) -> tuple[bool, Module | None]:
    """The module that an installed package offers under ``name``. The flag says whether one does, be it broken or not."""
    offers = {(e.value, _distribution(e)): e for e in importlib.metadata.entry_points(group=GROUP, name=name)}
    if not offers:
        return False, None
    if len(offers) > 1:
        packages = " and ".join(sorted(_distribution(e) for e in offers.values()))
        findings.error(node, f"module {name} is offered by several packages: {packages}", "uninstall all but one")
        return True, None
    (offer,) = offers.values()
    try:
        loaded = offer.load()
    except (Exception, SystemExit) as error:
        package = f"module {name} of package {_distribution(offer)} ({offer.value})"
        findings.error(node, f"failed to load {package}: {describe(error)}", _advice(error))
        return True, None
    return True, loaded if isinstance(loaded, Module) else declared(loaded, node, findings)


def packaged() -> list[str]:
    """Names of the modules that installed packages offer."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def declared(loaded: Any, node: ast.LoadModule, findings: Findings) -> Module | None:
    """The :class:`Module` object of a Python module."""
    module = getattr(loaded, "module", None)
    if not isinstance(module, Module):
        findings.error(node, f"{node.path} declares no module", "it needs an attribute module = Module(name, doc=...)")
        return None
    return module


def describe(error: BaseException) -> str:
    """``/etc/opensips/crm.py:12: TypeError: text``: what is wrong, and where in the code that is not the server's or Python's."""
    text = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {text}"
    place = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_SERVER, "<")) and (not file.startswith(_PYTHON) or "-packages" + os.sep in file):
            place = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return place + text


def _advice(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"a package that it needs is not installed where the server runs ({sys.executable}): {error.name.split('.')[0]}"
    return None


def _distribution(entry: EntryPoint) -> str:
    return "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
