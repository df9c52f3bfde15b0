"""OpenSIPS module sipmsgops: headers, body parts and codecs of the message.

Changes are edits: what is added is not visible to ``$hdr`` and ``is_present_hf`` until the message has been sent. Body
and codec functions work on the body as it will be sent, so that several of them can follow each other.
"""

from __future__ import annotations

from opensips_py.modules.sipmsgops import body, codecs, headers, validate  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.sipmsgops.declared import module

__all__ = ["module"]
