"""A provider that plays a script: a real HTTP/1.1 server on loopback, in threads of its own.

    with FakeProvider() as provider:
        provider.answers("POST", "/v1/chat/completions", json={"id": "chatcmpl-1"})
        provider.answers("POST", "/v1/chat/completions", sse=[{"choices": []}, Gate("half"), "[DONE]"])

Each answer is used once, in order, for its method and path. A request without one gets 599. `close` raises for
that, and for an answer that nobody asked for. Every wait is for an event, and is bounded. `billed` has what the
provider would charge its customer: the usages that it told, at the moment it told them, whether or not anybody heard.
"""

from __future__ import annotations

import json as jsonlib
import select
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Self

from billing import Billed, billed
from waiting import Departures, Latch, delivered
from wire import PATIENCE, Received, chunk, head, requests


@dataclass(frozen=True)
class Gate:
    """The answer stops here until the test calls `provider.release(name)`."""

    name: str


@dataclass(frozen=True)
class Ending:
    """The connection ends here, whatever was promised: by a farewell, or by a reset."""

    reset: bool


@dataclass(frozen=True)
class Drip:
    """The same bytes again and again, a hundred times a second, until the other side hangs up."""

    piece: bytes


DROP = Ending(reset=False)
RESET = Ending(reset=True)
Step = bytes | Gate | Ending | Drip


@dataclass
class Answer:
    """What is sent, in order. Under `times` None it is sent any number of times."""

    steps: list[Step]
    times: int | None = 1


class ClientLeft(Exception):
    """The other side closed the connection before it had the whole answer."""


class FakeProvider:
    """See the module. `requests` and `closed` may be read at any time; everything is safe between threads."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.closed = Departures()
        self.faults: list[str] = []
        self.billed: list[Billed] = []
        self._script: dict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        self._gates: dict[str, Latch] = defaultdict(Latch)
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(check=kind is None)

    # What a test calls

    def answers(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        sse: Iterable[dict[str, Any] | str | Step] | None = None,
        steps: Iterable[Step] | None = None,
        times: int | None = 1,
    ) -> None:
        """Plans an answer to `method` and `path` (without its query).

        `json` and `body` go out whole, with their length. Each item of `sse` is a chunk of its own: an object or
        a text becomes an event, bytes go as they are. `steps` are the whole answer, its head included. Gates, drips
        and endings may stand in both.
        """
        if steps is not None:
            planned = list(steps)
        elif sse is not None:
            told = {"Content-Type": "text/event-stream", **(headers or {}), "Transfer-Encoding": "chunked"}
            planned = [head(status, told), *(_step(item) for item in sse), chunk(b"")]
        else:
            content = body if json is None else jsonlib.dumps(json).encode()
            kind = "text/plain" if json is None else "application/json"
            told = {"Content-Type": kind, **(headers or {}), "Content-Length": str(len(content))}
            planned = [head(status, told) + content]
        with self._changed:
            self._script[method, path].append(Answer(planned, times))

    def reached(self, gate: str, times: int = 1) -> None:
        """Waits until `times` answers have come to the gate. Raises AssertionError when they don't in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._gates[gate].arrivals >= times, PATIENCE):
                raise AssertionError(f"Gate {gate!r} was reached {self._gates[gate].arrivals} times, not {times}")

    def release(self, gate: str) -> None:
        """Opens the gate, for those who wait at it and those who come later."""
        with self._changed:
            self._gates[gate].open()

    def close(self, *, check: bool = True) -> None:
        """Ends the server. With `check`, raises AssertionError if the script and what happened differ."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which `close` alone does not
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for gate in self._gates.values():
                gate.open()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        for gate in self._gates.values():
            gate.close()
        left = [f"{method} {path}" for (method, path), plan in self._script.items() for one in plan if one.times]
        unused = [f"nobody asked for the answer to {name}" for name in left]
        if check and (self.faults or unused):
            raise AssertionError("FakeProvider: " + "; ".join(self.faults + unused))

    # Connections

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._connections.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection):
            try:
                for request in requests(connection):
                    self._answer(connection, request)
                    if (request.header("Connection") or "").lower() == "close":
                        return
            except TimeoutError:
                self._fault(f"a connection stood still for {PATIENCE:g} s")
            except (OSError, EOFError):
                pass  # the other side is done, or this one ended the connection
            except ValueError as fault:
                self._fault(f"a request that is not HTTP: {fault}")
            finally:
                with self._changed:
                    self._connections.discard(connection)

    def _answer(self, connection: socket.socket, request: Received) -> None:
        with self._changed:
            self.requests.append(request)
            steps = self._next(request)
        told: bytes | None = b""
        try:
            for step in steps:
                if isinstance(step, bytes) and told is not None:
                    told = self._bill(request, told + step)
                self._take(connection, step)
        except (ClientLeft, ConnectionError):
            self.closed.put(request)
            raise EOFError from None

    def _bill(self, request: Received, told: bytes) -> bytes | None:
        """Writes down what the answer says that it used. What was `told` so far comes back until that is done."""
        found = billed(request, told)
        if found is None:
            return told
        with self._changed:
            self.billed.append(found)
        return None

    def _next(self, request: Received) -> list[Step]:
        plan = self._script.get((request.method, request.path))
        if not plan:
            self.faults.append(f"no answer was planned for {request.method} {request.target}")
            return [head(599, {"Content-Length": "0"})]
        answer = plan[0]
        if answer.times is not None:
            answer.times -= 1
            if not answer.times:
                plan.popleft()
        return answer.steps

    def _take(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, Gate):
            self._wait(connection, step)
        elif isinstance(step, Drip):
            self._drip(connection, step)
        else:
            if step.reset:
                delivered(connection)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise EOFError

    def _wait(self, connection: socket.socket, step: Gate) -> None:
        with self._changed:
            gate = self._gates[step.name]
            gate.arrivals += 1
            self._changed.notify_all()
        poller = select.poll()
        poller.register(gate.wait_end, select.POLLIN)
        poller.register(connection, select.POLLIN)
        woken = {descriptor for descriptor, _ in poller.poll(3 * PATIENCE * 1000)}
        if connection.fileno() in woken:
            if connection.recv(1, socket.MSG_PEEK):
                raise ValueError("more was sent before the answer was complete")
            raise ClientLeft
        if not woken:
            self._fault(f"nobody released gate {step.name!r}")
            raise EOFError

    def _drip(self, connection: socket.socket, step: Drip) -> None:
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        for _ in range(round(3 * PATIENCE * 100)):
            if poller.poll(10):
                raise ClientLeft
            connection.sendall(step.piece)
        self._fault("nobody hung up on a dripping answer")
        raise EOFError

    def _fault(self, sentence: str) -> None:
        with self._changed:
            self.faults.append(sentence)


def _step(item: dict[str, Any] | str | Step) -> Step:
    if isinstance(item, Gate | Ending | Drip):
        return item
    if isinstance(item, bytes):
        return chunk(item)
    text = item if isinstance(item, str) else jsonlib.dumps(item)
    return chunk(f"data: {text}\n\n".encode())
