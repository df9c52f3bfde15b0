"""The table of the store's keys in ``docs/architecture.md``, from the declarations in the code: ``make reference`` writes it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import opensips_py
from ipc.prefixes import declared

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"

_BEGIN = "<!-- store keys: made by `make reference` -->\n"
_END = "<!-- end of store keys -->\n"


def table() -> str:
    """A row for each kind of entry."""
    for found in pkgutil.walk_packages(opensips_py.__path__, "opensips_py."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    lines = ["| key begins with | entry | declared in |", "|---|---|---|"]
    for kind in sorted(declared.values()):
        if kind.owner.startswith("opensips_py."):
            lines.append(f"| `{kind.prefix.decode()}` | {kind.what} | `{_file(kind.owner)}` |")
    return "\n".join(lines) + "\n"


def _file(module: str) -> str:
    path = module.removeprefix("opensips_py.").replace(".", "/")
    return path if (PAGE.parent.parent / "opensips_py" / path).is_dir() else f"{path}.py"


def page(text: str) -> str:
    """``text``, with the table as it is now."""
    return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: f"{_BEGIN}\n{table()}\n{_END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
