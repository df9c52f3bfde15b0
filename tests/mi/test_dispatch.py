"""JSON-RPC 2.0 and recipes, without a transport."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opensips_py.mi.dispatcher import Dispatcher, Later, ParseError
from opensips_py.script.declarations import MIError, Module

module = Module("demo", doc="commands to call")
later: list[Later] = []


@module.mi("none")
def none() -> str:
    """No parameter."""
    return "OK"


@module.mi("fetch", ("system", "attr"), ("system", "attr", "expire"))
def fetch(system: str, attr: str, expire: int = 0) -> dict[str, Any]:
    """Two forms of different length."""
    return {"system": system, "attr": attr, "expire": expire}


@module.mi("call", ("method", "socket"), ("method", "body"))
def call(method: str, socket: str | None = None, body: str | None = None) -> list[Any]:
    """Two forms of equal length."""
    return [method, socket, body]


@module.mi("sum", ("numbers",))
def sum_(numbers: list[int]) -> int:
    """A list."""
    return sum(numbers)


@module.mi("fail")
def fail() -> None:
    """An error of its own."""
    raise MIError(400, "Value not found", "of the key")


@module.mi("broken")
def broken() -> int:
    """A fault."""
    return 1 // 0


@module.mi("nothing")
def nothing() -> None:
    """No result."""


@module.mi("wait")
def wait() -> Later:
    """Answers later."""
    later.append(Later())
    return later[-1]


DISPATCHER = Dispatcher([module])


def run(text: str | bytes, dispatcher: Dispatcher = DISPATCHER) -> list[Any]:
    answers: list[bytes] = []
    dispatcher.dispatch(text.encode() if isinstance(text, str) else text, answers.append)
    return [json.loads(answer) for answer in answers]


def ask(method: str, params: Any = None) -> Any:
    request = {"jsonrpc": "2.0", "id": 7, "method": method} | ({} if params is None else {"params": params})
    [answer] = run(json.dumps(request))
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    return answer["result"] if "result" in answer else answer["error"]


def invalid(data: str) -> dict[str, Any]:
    return {"code": -32602, "message": "Invalid params", "data": data}


def test_an_answer_is_compact_with_its_members_in_order() -> None:
    answers: list[bytes] = []
    DISPATCHER.dispatch(b'{"jsonrpc":"2.0","id":"42","method":"none"}', answers.append)
    assert answers == [b'{"jsonrpc":"2.0","result":"OK","id":"42"}']


def test_pretty_printing_indents() -> None:
    answers: list[bytes] = []
    Dispatcher([module], pretty=True).dispatch(b'{"jsonrpc":"2.0","id":1,"method":"none"}', answers.append)
    assert answers == [b'{\n    "jsonrpc": "2.0",\n    "result": "OK",\n    "id": 1\n}']


@pytest.mark.parametrize("number", [1, -3, 1.5, "x", "", None, 10**15])
def test_the_id_comes_back_as_it_was(number: Any) -> None:
    [answer] = run(json.dumps({"jsonrpc": "2.0", "id": number, "method": "none"}))
    assert answer["id"] == number


def test_a_request_without_id_is_run_and_not_answered() -> None:
    assert run('{"jsonrpc":"2.0","method":"none"}') == []
    assert run('{"jsonrpc":"2.0","method":"no_such"}') == []
    before = len(later)
    assert run('{"jsonrpc":"2.0","method":"wait"}') == []
    assert len(later) == before + 1
    later[-1].done("OK")


@pytest.mark.parametrize(
    "request_",
    [
        '{"jsonrpc":"1.0","id":1,"method":"none"}',
        '{"jsonrpc":2.0,"id":1,"method":"none"}',
        '{"id":1,"method":"none"}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":1,"method":5}',
        '{"jsonrpc":"2.0","id":1,"method":"none","params":"x"}',
        '{"jsonrpc":"2.0","id":1,"method":"none","params":3}',
        '{"jsonrpc":"2.0","id":[1],"method":"none"}',
        '{"jsonrpc":"2.0","id":true,"method":"none"}',
        "[]",
        '"none"',
    ],
)
def test_what_is_not_json_rpc_is_an_invalid_request(request_: str) -> None:
    [answer] = run(request_)
    assert answer["error"] == {"code": -32600, "message": "Invalid Request"}


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nonsense", b"{'a':1}", b"\xff\xfe", b'{"a":"\xff"}', b'{"a":' * 5000 + b"1" + b"}" * 5000]
)
def test_what_is_not_json_is_a_parse_error(text: bytes) -> None:
    with pytest.raises(ParseError):
        run(text)


def test_an_unknown_method() -> None:
    assert ask("no_such_command") == {"code": -32601, "message": "Method not found"}


def test_parameters_by_name_choose_the_recipe_with_these_names() -> None:
    assert ask("fetch", {"attr": "k", "system": "local"}) == {"system": "local", "attr": "k", "expire": 0}
    assert ask("fetch", {"attr": "k", "system": "local", "expire": 9}) == {"system": "local", "attr": "k", "expire": 9}
    assert ask("call", {"method": "MESSAGE", "body": "hi"}) == ["MESSAGE", None, "hi"]
    assert ask("fetch", {"system": "local", "atr": "k"}) == invalid("Named parameters do not match")
    assert ask("fetch", {"system": "local"}) == invalid("Too few or too many parameters")


def test_parameters_by_position_need_the_only_recipe_of_their_number() -> None:
    assert ask("fetch", ["local", "k"]) == {"system": "local", "attr": "k", "expire": 0}
    assert ask("call", ["MESSAGE", "hi"]) == invalid("Ambiguous call, use named parameters instead")
    assert ask("fetch", ["local", "k", "1", "extra"]) == invalid("Too few or too many parameters")


def test_no_parameters_may_be_said_in_three_ways() -> None:
    assert ask("none") == ask("none", []) == ask("none", {}) == "OK"
    assert ask("none", ["x"]) == invalid("Too few or too many parameters")
    assert ask("fetch") == invalid("Too few or too many parameters")


def test_numbers_may_be_text_and_text_numbers() -> None:
    assert ask("fetch", {"system": 5, "attr": 1.5, "expire": "60"}) == {"system": "5", "attr": "1.5", "expire": 60}
    assert ask("sum", {"numbers": [1, "2"]}) == 3
    assert ask("sum", [[4, 5]]) == 9


@pytest.mark.parametrize("params", [["local", "k", "soon"], ["local", "k", None], [["local"], "k"], [{}, "k"], [True, "k"]])
def test_a_value_of_the_wrong_kind_is_refused(params: list[Any]) -> None:
    assert ask("fetch", params) == invalid("Failed to handle parameter")
    assert ask("sum", [7]) == invalid("Failed to handle parameter")


def test_errors_of_a_command_keep_code_message_and_data() -> None:
    assert ask("fail") == {"code": 400, "message": "Value not found", "data": "of the key"}


@pytest.mark.parametrize("method", ["broken", "nothing"])
def test_a_command_that_breaks_is_a_server_error(method: str) -> None:
    assert ask(method) == {"code": -32000, "message": "Server error", "data": "Command handler returned null"}


def test_a_result_that_comes_later_is_answered_then_and_once() -> None:
    answers: list[bytes] = []
    DISPATCHER.dispatch(b'{"jsonrpc":"2.0","id":1,"method":"wait"}', answers.append)
    DISPATCHER.dispatch(b'{"jsonrpc":"2.0","id":2,"method":"wait"}', answers.append)
    assert answers == []
    later[-1].failed(MIError(404, "gone"))
    later[-2].done({"Status": "200 OK"})
    later[-2].done("again")
    assert [json.loads(a) for a in answers] == [
        {"jsonrpc": "2.0", "error": {"code": 404, "message": "gone"}, "id": 2},
        {"jsonrpc": "2.0", "result": {"Status": "200 OK"}, "id": 1},
    ]


def test_a_result_that_is_there_already_is_answered_at_once() -> None:
    ready = Module("ready", doc="")

    @ready.mi("now")
    def now() -> Later:
        result = Later()
        result.done([1])
        return result

    assert run('{"jsonrpc":"2.0","id":1,"method":"now"}', Dispatcher([ready]))[0]["result"] == [1]


def test_texts_are_utf8_outside_and_bytes_inside() -> None:
    seen: list[str] = []
    echo = Module("echo", doc="")

    @echo.mi("echo", ("text",))
    def handler(text: str) -> dict[str, str]:
        seen.append(text)
        return {text: text}

    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": ["Jürgen €"]}, ensure_ascii=False)
    assert run(request, Dispatcher([echo]))[0]["result"] == {"Jürgen €": "Jürgen €"}
    assert seen == ["Jürgen €".encode().decode("latin-1")]
