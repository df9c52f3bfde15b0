"""The body that a message will be sent with, and its parts, once functions have changed them."""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.sip import multipart

CONTENT_TYPE = "content_type"
"""Slot of a Context: the Content-Type that the message will have, once it has been changed."""


def content_type(ctx: Context) -> str:
    """The Content-Type that the message has or will have."""
    changed: str | None = ctx.slots.get(CONTENT_TYPE)
    return (ctx.msg.content_type or "") if changed is None else changed


def parts(ctx: Context) -> list[multipart.Part]:
    """The parts of the body as it will be sent."""
    return multipart.parts(ctx.msg.pending_body(), content_type(ctx))
