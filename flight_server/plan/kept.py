"""What is kept of statements, datasets and plans to answer the same question faster, within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from sqlglot import exp

_Value = TypeVar("_Value")
# A node of a tree: tracemalloc counts 460 to 690 bytes in statements of 16 to 19 kB, before and after qualifying.
_NODE_BYTES = 700


class Kept(Generic[_Value]):
    """The values used last, at most `count_max` of them and `bytes_max` together. Thread-safe.

    A value that alone is over the bound is not kept: a statement of a client can be a thousand times a usual one.
    """

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[object, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: object) -> _Value | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: object, value: _Value, size: int) -> None:
        """Keep a value of about `size` bytes in place of those that were not used for the longest time."""
        if size > self._bytes_max:
            return
        with self._lock:
            self._bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while len(self._values) > self._count_max or self._bytes > self._bytes_max:
                self._bytes -= self._values.popitem(last=False)[1][1]


def tree_bytes(tree: exp.Expr) -> int:
    """About what a tree takes in memory."""
    return _NODE_BYTES * sum(1 for _ in tree.walk())
