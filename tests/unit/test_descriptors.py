"""Requests as bytes: three spellings of one question, signed tickets, and bytes from an enemy."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flight_server.datasets.params import resolve
from flight_server.errors import Error, InvalidRequest
from flight_server.model import Bounds, Estimate, Plan, Request, TablePin
from flight_server.service.descriptors import Tickets, decode, decode_object, decode_path, decode_ticket
from tests.fix_datasets import with_params

MAX = 65_536
TODAY = date(2024, 3, 15)
TICKETS = Tickets(b"0123456789abcdef", 3600)
DATASET = with_params(
    's = { type = "string", max_length = 50_000 }',
    'n = { type = "int64", optional = true }',
    'd = { type = "decimal(12,4)", optional = true }',
    'l = { type = "list<string>", max_length = 50_000, optional = true, min_items = 0 }',
    'm = { type = "map<int32, float64>", optional = true }',
)


def asked(body: bytes | str) -> Request:
    return decode(body.encode() if isinstance(body, str) else body, MAX)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        call()
    assert "\n" not in caught.value.message
    assert len(caught.value.message.encode()) < 1000
    return caught.value.code, caught.value.message


clean = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=15)


@given(
    s=clean,
    n=st.integers(-(2**63), 2**63 - 1),
    d=st.decimals(-99999999, 99999999, places=4),
    items=st.lists(clean, max_size=4),
    weights=st.dictionaries(st.integers(-99, 99), st.floats(-1e9, 1e9), max_size=4),
    encode=st.sampled_from([quote_plus, lambda text: quote(text, safe="")]),
)
def test_the_three_forms_ask_the_same(
    s: str, n: int, d: Any, items: list[str], weights: dict[int, float], encode: Callable[[str], str]
) -> None:
    pairs = [("s", s), ("n", str(n)), ("d", str(d)), *(("l", item) for item in items)]
    pairs += [("m", f"{key}:{value!r}") for key, value in weights.items()]
    elements = [f"{name}={encode(value)}" for name, value in pairs]
    params: dict[str, object] = {"s": s, "n": n, "d": str(d)}
    params |= {"l": items} if items else {}
    params |= {"m": {str(key): value for key, value in weights.items()}} if weights else {}
    by_json = asked(json.dumps({"dataset": "sample", "params": params}))
    by_query = asked(f"sample?{'&'.join(elements)}")
    by_path = decode_path([b"sample", *(element.encode() for element in elements)], MAX)
    values = [resolve(DATASET, request.params, TODAY) for request in (by_json, by_query, by_path)]
    assert values[0] == values[1] == values[2]
    assert by_json.dataset == by_query.dataset == by_path.dataset == "sample"


def test_options_are_the_same_in_both_forms() -> None:
    query = asked("sample?_version=2&_as_of=2024-01-01T00%3A00%3A00Z&_engine=duckdb")
    written = {"dataset": "sample", "version": 2, "as_of": "2024-01-01T00:00:00Z", "engine": "duckdb"}
    assert query == asked(json.dumps(written)) == decode_path(
        [b"sample", b"_version=2", b"_as_of=2024-01-01T00:00:00Z", b"_engine=duckdb"], MAX
    )  # fmt: skip


def test_a_name_alone_and_a_question_mark_alone_ask_without_parameters() -> None:
    assert asked("sample") == asked("sample?") == decode_path([b"sample"], MAX) == asked('{"dataset": "sample"}')


def test_null_parameters_in_json_are_given_as_null() -> None:
    assert asked('{"dataset": "sample", "params": {"n": null}}').params == {"n": None}
    assert asked('{"dataset": "sample", "params": null, "version": null}') == asked("sample")


BAD = [
    (b"\xff\xfe", "bad-ticket", "not UTF-8"),
    (b"sample?ticker", "bad-request", "name=value"),
    (b"sample?a=%ff", "bad-request", "not UTF-8 with %XX"),
    (b"sample?a=%ed%a0%80", "bad-request", "not UTF-8 with %XX"),
    (b"", "bad-request", "names no dataset; write daily_prices?ticker=AAPL"),
    (b"?a=1", "bad-request", "names no dataset"),
    (b"SELECT * FROM sample", "bad-request", 'SQL is asked as JSON, {"sql": "SELECT \u2026"}'),
    (b"\nwith a as (select 1)", "bad-request", "SQL is asked as JSON"),
    (b"sample(ticker=AAPL)", "bad-request", "parentheses are for SQL; write daily_prices?ticker=AAPL"),
    (b'{"dataset": "a", "n": 1}', "bad-request", 'parameters stand in "params": {"name": value}'),
    (b"sample?&&", "bad-request", "name=value"),
    (b"sample?_verson=1", "unknown-parameter", "no option '_verson'; did you mean '_version'?"),
    (b"sample?_version=1&_version=2", "bad-parameter", "_version is given 2 times"),
    (b"sample?_version=one", "bad-request", "version 'one' is not a whole number"),
    ("sample?_version=²".encode(), "bad-request", "is not a whole number"),
    ("sample?_version=٣".encode(), "bad-request", "is not a whole number"),
    (b"sample?_version=99999999999", "bad-request", "is not a whole number"),
    (b"{", "bad-request", "not JSON: "),
    (b"{}", "bad-request", 'write {"dataset"'),
    (b'{"dataset": "a", "sql": "SELECT 1"}', "bad-request", 'write {"dataset"'),
    (b'{"datset": "a"}', "bad-request", "there is no key 'datset'; did you mean 'dataset'?"),
    (b'{"dataset": 1}', "bad-request", '"dataset" must be a string'),
    (b'{"dataset": null}', "bad-request", '"dataset" must be a string'),
    (b'{"dataset": "a", "params": [1]}', "bad-request", '"params" must be an object'),
    (b'{"dataset": "a", "params": ""}', "bad-request", '"params" must be an object'),
    (b'{"dataset": "a", "version": 1.5}', "bad-request", "is not a whole number"),
    (b'{"dataset": "a", "version": true}', "bad-request", "is not a whole number"),
    (b'{"dataset": "a", "as_of": 2024}', "bad-request", '"as_of" must be a string'),
    (b'{"dataset": "a", "dataset": "b"}', "bad-request", "'dataset' is given twice"),
    (b'{"dataset": "a", "params": {"x": 1, "x": 2}}', "bad-request", "'x' is given twice"),
    (b'{"dataset": "a", "params": {"x": {"1": 1, "1": 2}}}', "bad-request", "'1' is given twice"),
    (b'{"dataset": "a", "params": {"x": NaN}}', "bad-request", "NaN is no JSON number"),
    (b'{"dataset": "a", "params": {"x": -Infinity}}', "bad-request", "-Infinity is no JSON number"),
    (b'{"dataset": "a", "params": {"x": ' + b"9" * 5000 + b"}}", "bad-request", "a number has 5,000 digits"),
    (b'{"sql": "SELECT 1", "version": 1}', "bad-request", '"version" is for a dataset'),
    (b'{"dataset": "a", "params": {"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}}", "bad-request", "too deeply"),
    (b'{"dataset": "a", "params": {"x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}}", "bad-request", "deeply"),
    (b"a" * 65_537, "bad-request", "the request has 65,537 bytes; at most 65,536 are read"),
    (b"\x00" * 1_000_000, "bad-request", "the request has 1,000,000 bytes"),
    (b"aft1." + b"A" * 1_000_000, "bad-request", "the request has 1,000,005 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "said"), BAD, ids=range(len(BAD)))
def test_a_malformed_request_is_refused_with_the_way_out(body: bytes, code: str, said: str) -> None:
    found = refusal(lambda: decode_ticket(body, TICKETS, MAX))
    assert found[0] == code
    assert said in found[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "must be a JSON object"),
        (b"\xff", "not UTF-8"),
        (b'{"x": 1}', "no key 'x'"),
        (b"", 'write {"dataset": "…"}'),
    ],
)
def test_the_body_of_an_action_is_an_object_of_known_keys(body: bytes, said: str) -> None:
    assert said in refusal(lambda: decode_object(body, MAX, ["dataset"]))[1]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60).map(lambda tail: b"sample?" + tail),
    st.binary(max_size=60).map(lambda tail: b"aft1." + tail),
    json_like.map(lambda value: json.dumps({"dataset": "sample", "params": value}).encode()),
    st.dictionaries(st.sampled_from(["dataset", "sql", "params", "version", "as_of", "engine"]), json_like).map(
        lambda value: json.dumps(value).encode()
    ),
)


@settings(max_examples=300)
@given(bodies)
@example(b'{"dataset": "\\ud800", "params": {"\\udfff": 1}}')
@example(b"sample?s=%00")
@example(b"aft1.\xff.\xff")
def test_any_bytes_are_a_request_or_one_of_our_errors(body: bytes) -> None:
    try:
        found = decode_ticket(body, TICKETS, MAX)
        resolve(DATASET, found.params, TODAY)
    except Error as error:
        said = str(error)
    else:
        said = ""
    assert len(said.encode()) < 2000


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_any_path_is_a_request_or_one_of_our_errors(path: list[bytes]) -> None:
    try:
        found = decode_path(path, MAX).dataset
    except Error as error:
        found = error.code
    assert isinstance(found, str)


def test_many_repeats_of_a_key_take_no_time() -> None:
    body = b"sample?" + b"&".join([b"l="] * 21_000)
    started = time.thread_time()
    assert len(asked(body).params["l"]) == 21_000  # type: ignore[arg-type]
    assert time.thread_time() - started < 0.5


def plan_of(params: dict[str, Any]) -> Plan:
    values = resolve(DATASET, params, TODAY)
    pins = (TablePin("d.t", 2**62, 0, "/m.json"), TablePin("d.u", None, 0, "/m.json"))
    bounds = Bounds(1, 1.0, 1, 1)
    none = Estimate(0, 0, 0.0)
    return Plan(DATASET, values, "duckdb", "", "", "", (), pins, "", none, none, bounds)


PLAN = plan_of({"s": "삼성 'x'\n", "n": 5, "d": "1.5", "l": ["b", "a"], "m": {"1": 0.6}})


def test_an_issued_ticket_holds_the_whole_plan() -> None:
    ticket, expires = TICKETS.issue(PLAN)
    found = decode_ticket(ticket, TICKETS, MAX)
    assert resolve(DATASET, found.params, TODAY) == PLAN.params
    assert found.pins == {"d.t": 2**62, "d.u": None}
    assert (found.dataset, found.version, found.contract) == ("sample", 1, DATASET.digest)
    assert (found.issued_engine, found.engine) == ("duckdb", None)
    assert 3590 < expires - time.time() <= 3600


def test_a_ticket_is_opened_by_every_replica_with_the_secret_and_by_no_other() -> None:
    ticket, _ = TICKETS.issue(PLAN)
    assert decode_ticket(ticket, Tickets(b"0123456789abcdef", 1), MAX).dataset == "sample"
    assert refusal(lambda: decode_ticket(ticket, Tickets(b"another", 3600), MAX))[0] == "bad-ticket"


def test_a_change_of_any_byte_is_refused() -> None:
    ticket, _ = TICKETS.issue(plan_of({"s": "a"}))
    for place in range(len(ticket)):
        for byte in {ticket[place] ^ 1, ticket[place] ^ 0x20, ord("A"), ord("="), 0, 255} - {ticket[place]}:
            changed = ticket[:place] + bytes([byte]) + ticket[place + 1 :]
            try:
                found = decode_ticket(changed, TICKETS, MAX)
            except InvalidRequest as error:
                assert error.code in ("bad-ticket", "bad-request")  # noqa: PT017 - one of two ways to be refused
            else:
                # A broken prefix makes it a plain request, for a dataset of a name that no dataset can have.
                assert place < 5
                assert found.pins is None
                assert not found.dataset.isidentifier()


@pytest.mark.parametrize("cut", [1, 5, 6, 20, -1, -10])
def test_a_cut_or_lengthened_ticket_is_refused(cut: int) -> None:
    ticket, _ = TICKETS.issue(PLAN)
    for changed in (ticket[:cut], ticket + b"=", ticket + b"A", ticket + b".x", ticket + b"\n"):
        if changed.startswith(b"aft1."):
            assert refusal(lambda changed=changed: decode_ticket(changed, TICKETS, MAX))[0] == "bad-ticket"  # type: ignore[misc]


def test_a_signature_does_not_fit_another_body() -> None:
    first, second = TICKETS.issue(plan_of({"s": "a"}))[0], TICKETS.issue(plan_of({"s": "b"}))[0]
    mixed = first.rpartition(b".")[0] + b"." + second.rpartition(b".")[2]
    assert refusal(lambda: decode_ticket(mixed, TICKETS, MAX))[0] == "bad-ticket"
    body = base64.urlsafe_b64encode(json.dumps({"dataset": "sample", "expires": 1e18}).encode())
    for signature in (b"", b"=", base64.urlsafe_b64encode(b"\0" * 32)):
        assert refusal(lambda s=signature: decode_ticket(b"aft1." + body + b"." + s, TICKETS, MAX))[0] == "bad-ticket"  # type: ignore[misc]


def test_a_ticket_expires() -> None:
    ticket, _ = Tickets(b"0123456789abcdef", -1).issue(PLAN)
    assert refusal(lambda: decode_ticket(ticket, TICKETS, MAX))[0] == "expired-ticket"


@pytest.mark.parametrize("value", ["삼" * 5_000, "\x01" * 50_000, "a" * 50_000, '"' * 50_000])
def test_a_ticket_for_any_request_that_was_read_is_read_again(value: str) -> None:
    request = decode(json.dumps({"dataset": "sample", "params": {"s": value}}, ensure_ascii=False).encode(), 400_000)
    ticket, _ = TICKETS.issue(plan_of(dict(request.params)))
    assert decode_ticket(ticket, TICKETS, MAX).params["s"] == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("map<bool, int32>", {"true": 1, "false": 0}),
        ("map<date, bool>", {"2024-02-29": True}),
        ("map<timestamp(tz), decimal(5,2)>", {"2024-02-29T12:30:00Z": "1.50"}),
        ("map<float64, string>", {"1e300": "", "-0.1": "a"}),
        ("map<string, int32>", {}),
        ("list<int32>", []),
    ],
)
def test_values_of_every_shape_come_back_from_a_ticket(kind: str, value: object) -> None:
    dataset = with_params(f'v = {{ type = "{kind}", min_items = 0 }}')
    values = resolve(dataset, {"v": value}, TODAY)
    ticket, _ = TICKETS.issue(replace(PLAN, dataset=dataset, params=values))
    assert resolve(dataset, decode_ticket(ticket, TICKETS, MAX).params, TODAY) == values
