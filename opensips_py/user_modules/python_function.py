"""From a user's Python function to what a compiled route calls: arguments in, outputs and return code out."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from opensips_py.script import variables
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ModuleParameter, Parameter, is_output, parameters_of
from opensips_py.script.outputs import Out, checked, to_script, to_unicode
from opensips_py.script.posix_regex import compile_characters
from opensips_py.server.process import this
from opensips_py.user_modules.python_call import ERROR, Job, PythonCall, assignments, code_of, report_failure


class Signature:
    """What a function takes. Raises TypeError for what it cannot get."""

    def __init__(self, body: Callable[..., Any], *, waits: bool) -> None:
        given = list(inspect.signature(body).parameters.values())
        hints = typing.get_type_hints(body, include_extras=True)
        self.takes_context = bool(given) and (hints.get(given[0].name) is Context or given[0].name == "ctx")
        self.parameters: list[Parameter] = parameters_of(body, skip=int(self.takes_context))
        self._defaults = [None if p.default is p.empty else p.default for p in given[int(self.takes_context) :]]
        self._outputs = [i for i, p in enumerate(self.parameters) if is_output(hints[p.name])]
        self._texts = [i for i, p in enumerate(self.parameters) if p.kind in ("str", "static")]
        self._patterns = [i for i, p in enumerate(self.parameters) if p.kind == "regex"]
        handles = [p.name for i, p in enumerate(self.parameters) if p.kind in ("var", "varlist") and i not in self._outputs]
        if waits and self.takes_context:
            raise TypeError(
                f"{body.__name__}() runs beside the script and gets no Context; let the script pass what it needs, "
                'as in f("$fU", "$ci")'
            )
        if handles and not self.takes_context:
            raise TypeError(
                f"{body.__name__}(): parameter {handles[0]} is a variable, which needs a Context to be read or written; "
                "take str or int to read, Out[str] or Out[int] to write"
            )

    def prepare(self, arguments: Sequence[Any]) -> tuple[list[Any], list[Out[Any]]]:
        """The arguments of one call as the function takes them, and its outputs among them."""
        values = list(arguments)
        count = len(values)
        outputs = []
        for i in self._texts:
            if i < count and values[i] is not None:
                values[i] = to_unicode(values[i])
        for i in self._patterns:
            if i < count and values[i] is not None:
                values[i] = compile_characters(to_unicode(values[i].pattern))
        for i in self._outputs:
            if i < count and values[i] is not None:
                values[i] = Out(values[i].text)
                outputs.append(values[i])
        for i, value in enumerate(values):
            if value is None:  # omitted: a NULL in its place would have ended the call before
                values[i] = self._defaults[i]
        return values, outputs


def immediate(body: Callable[..., Any], signature: Signature, name: str) -> Callable[..., int]:
    """What a route calls for a function that returns at once."""
    prepare = signature.prepare
    takes_context = signature.takes_context

    def call(ctx: Context, *arguments: Any) -> int:
        try:
            values, outputs = prepare(arguments)
            rc = code_of(body(ctx, *values) if takes_context else body(*values), name)
            assigned = assignments(outputs)
        except Exception as error:
            report_failure(error, script_place(sys._getframe(1)))
            return ERROR
        for text, value in assigned:
            variables.by_text(text).set(ctx, value)
        return rc

    return call


def waiting(
    body: Callable[..., Any],
    signature: Signature,
    operation: type[PythonCall],
    begin: Callable[[Callable[[], Any], bool], Job],
    seconds: float | ModuleParameter[int] | None,
) -> Callable[..., PythonCall]:
    """What a route calls for a function that takes time: it gives the operation, which begins when it is started."""
    prepare = signature.prepare

    def call(ctx: Context, *arguments: Any) -> PythonCall:
        values, outputs = prepare(arguments)
        limit = seconds.value if isinstance(seconds, ModuleParameter) else seconds
        return operation(lambda held: begin(lambda: body(*values), held), outputs, limit, script_place(sys._getframe(1)))

    return call


def reader(read: Callable[..., Any]) -> Callable[..., Value]:
    """What reads a user's variable."""

    def call(ctx: Context, argument: str | None, index: int | str | None) -> Value:
        value = checked(read(ctx, None if argument is None else to_unicode(argument), index))
        return to_script(value) if isinstance(value, str) else value

    return call


def writer(write: Callable[..., None]) -> Callable[..., None]:
    """What writes a user's variable."""

    def call(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
        given = to_unicode(value) if isinstance(value, str) else value
        write(ctx, None if argument is None else to_unicode(argument), index, given)

    return call


def script_place(frame: FrameType) -> str:
    """``file:line`` of the script statement that runs in ``frame``; empty when it is not one."""
    place = this.program.place(frame.f_code, frame.f_lineno)
    return "" if place is None else f"{place[0]}:{place[1]}"
