"""What tests see of the processes that they start."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tests.processes import Process


class Late(Process):
    """A child whose lines are read only when it has ended, and a moment later."""

    def _read(self) -> None:
        self.child.wait()
        threading.Event().wait(0.2)
        super()._read()


def test_lines_of_a_child_that_has_ended_are_waited_for() -> None:
    with closing(Late(["-c", "print('first'); print('last')"])) as process:
        process.child.wait()
        assert process.wait_for("last") == "last\n"


def test_a_line_that_never_comes_is_not_waited_for_once_all_is_read() -> None:
    with closing(Process(["-c", "print('first')"])) as process, pytest.raises(AssertionError, match="no 'second' in"):
        process.wait_for("second")
