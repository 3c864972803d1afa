"""A dataset as a Python function: signature and documentation from its contract, a call makes a Query."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from flight_client._transport import Transport
from flight_client.contract import Contract, Parameter, did_you_mean
from flight_client.errors import InvalidRequest
from flight_client.query import Query, Request
from flight_client.values import to_json


class _FromContract:
    """An attribute of instances, made from their contract when it is asked for; the class has `of_class`, or none."""

    def __init__(self, make: Callable[[Contract], object], of_class: str | None = None) -> None:
        self._make = make
        self._of_class = of_class

    def __get__(self, dataset: Dataset | None, owner: type) -> object:
        if dataset is not None:
            return self._make(dataset.contract)
        if self._of_class is None:
            raise AttributeError("the class has none, its instances have")
        return self._of_class


class Dataset:
    __doc__: Any = _FromContract(
        Contract.documentation,
        'One dataset of a server: `db.daily_prices("AAPL", start_date="2010-01-04")` makes a Query and asks nothing.',
    )
    __signature__ = _FromContract(lambda contract: contract.signature(Query))

    def __init__(self, transport: Transport, describe: Callable[[bool], Contract], name: str, bar: bool) -> None:
        self._transport = transport
        self._describe = describe
        self._bar = bar
        self.__name__ = self.__qualname__ = name

    @property
    def contract(self) -> Contract:
        """What the dataset takes and gives, from the server; asked for once."""
        return self._describe(False)

    def __call__(self, *args: object, **params: object) -> Query:
        """A question to the dataset. Names are checked here, values by the server when the answer is asked for."""
        contract = self._describe(False)
        try:
            return self._query(contract, args, params)
        except InvalidRequest as error:
            # The server's datasets may have been changed since they were described.
            fresh = contract if error.code == "bad-parameter" else self._describe(True)
            if fresh == contract:
                raise
            return self._query(fresh, args, params)

    def __repr__(self) -> str:
        return f"{self.__name__}{inspect.signature(self)}: {self.contract.title}"

    def _query(self, contract: Contract, args: tuple[object, ...], given: dict[str, object]) -> Query:
        bound = _bind(contract, args, given)
        params = {}
        for parameter in contract.params:
            # None for a parameter that can be left out means: left out.
            value = bound.get(parameter.name)
            if parameter.name in bound and (parameter.required or value is not None):
                params[parameter.name] = to_json(value, parameter.type, parameter.name)
        return Query(self._transport, Request(params, contract.name, version=contract.version), self._bar)


def _bind(contract: Contract, args: tuple[object, ...], given: dict[str, object]) -> dict[str, object]:
    """Arguments by the wire's parameter name. Raises InvalidRequest, worded as the server would, in Python."""
    names = {written: each.name for each in contract.params for written in (each.python_name, each.name)}
    order = sorted(contract.params, key=lambda each: not each.required)
    if len(args) > len(order):
        raise InvalidRequest("bad-request", f"{contract.name} is given {len(args)} values. {_takes(order)}")
    found: dict[str, object] = {each.name: value for each, value in zip(order, args, strict=False)}
    for key, value in given.items():
        if key not in names:
            hint = did_you_mean(key, names, end=".")
            raise InvalidRequest(
                "unknown-parameter", f"{contract.name} has no parameter {key!r}{hint} {_takes(contract.params)}"
            )
        if names[key] in found:
            raise InvalidRequest("bad-parameter", f"{contract.name}: {key!r} is given twice")
        found[names[key]] = value
    if missing := [each for each in contract.params if each.required and each.name not in found]:
        named = ", ".join(f"{each.name!r} ({each.type})" for each in missing)
        example = ""
        if all(each.example is not None for each in missing):
            given_as = ", ".join(f"{each.python_name}={each.example!r}" for each in missing)
            example = f", for example {contract.name}({given_as})"
        raise InvalidRequest("missing-parameter", f"{contract.name} needs {named}{example}")
    return found


def _takes(params: list[Parameter] | tuple[Parameter, ...]) -> str:
    return f"It takes {', '.join(each.name for each in params)}" if params else "It takes none"
