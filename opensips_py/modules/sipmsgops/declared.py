"""The module object of sipmsgops, for the files that its functions are spread over."""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("sipmsgops", doc="Headers, body parts and codecs of the message (OpenSIPS module sipmsgops)")
