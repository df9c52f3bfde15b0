"""The declarations of what the core itself adds to the language: functions and variables that need more than the message."""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("core", doc="Functions and variables that need no module")
