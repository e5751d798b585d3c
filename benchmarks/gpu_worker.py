"""A process apart that uses a GPU: whatever happens there, the one that asks goes on.

A kernel that reads where it must not ends the context of its process, and one that does not end has to be killed. The
process is started when it is first asked, and again after it was ended.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

STARTING = 60.0  # seconds that imports and the context may take, on top of what is asked
LOST = "is lost to this process"  # in the message of a device whose context has ended


class AwayError(Exception):
    """There is no answer: something was raised there, it took too long, or the process died."""


def serve(pipe: Any, prelude: str) -> None:
    """In the process apart: answer until nothing more is asked."""
    exec(prelude, {"__name__": "prelude"})
    pipe.send((True, "ready"))
    while (asked := pipe.recv()) is not None:
        function, arguments = asked
        try:
            pipe.send((True, function(*arguments)))
        except Exception as error:  # whatever is raised is a result
            pipe.send((False, first_line(error)))


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[0]


class Worker:
    """Calls functions in a process apart; the prelude is a text of Python that is run there first.

    Examples
    --------
    >>> with Worker() as worker:
    ...     worker.ask(len, "four")
    4
    """

    def __init__(self, prelude: str = "") -> None:
        self.prelude, self.process, self.pipe = prelude, None, None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def ask(self, function: Callable[..., Any], *arguments: Any, limit: float = 60.0) -> Any:
        """What a function of a module returns; it is given so many seconds, and more in a new process.

        Raises
        ------
        AwayError
            In place of what was raised there, and where there is no answer.
        """
        if self.process is None:
            self._start()
            limit += STARTING  # what the function needs is imported
        self.pipe.send((function, arguments))
        good, answer = self._heard(limit)
        if not good:
            if LOST in answer:
                self.close()
            raise AwayError(answer)
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None

    def _start(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.prelude), daemon=True)
        self.process.start()
        theirs.close()
        self._heard(STARTING)

    def _heard(self, seconds: float) -> tuple[bool, Any]:
        try:
            if self.pipe.poll(max(seconds, 0.0)):
                return self.pipe.recv()
            why = f"no answer in {seconds:.0f} s"
        except (EOFError, OSError):
            self.process.join(30.0)  # its status is there when it has ended, not when its pipe has
            why = f"its process died (status {self.process.exitcode})"
        self.close()
        raise AwayError(why)
