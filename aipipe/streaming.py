"""Passes a stream of events on as they come, while metering watches them."""

from __future__ import annotations

import logging

from aipipe import arrays, sse
from aipipe.client import Client, nothing
from aipipe.errors import ProviderError
from aipipe.formats import UNREADABLE
from aipipe.metering import Bill, Charge
from aipipe.money import show
from aipipe.upstream import Answer

log = logging.getLogger(__name__)

Reader = sse.Reader | arrays.Reader


class Stream:
    """Passes events on as they come. The one that completes the answer waits until the answer is charged.

    When the caller leaves, the provider is hung up on at once if that ends its bill; else the rest is read
    without the caller, and the truth is charged. `bill` is there once it is charged.

    Where no comment of ours may stand in the stream, none follows what completes it either, and what may do so waits
    for the end of the stream, or for another event: Gemini has no mark for the last one.
    """

    def __init__(self, answer: Answer, charge: Charge, client: Client, events: Reader) -> None:
        self._answer, self._charge, self._client = answer, charge, client
        self._events = events
        self._watch = charge.call.format.watch()
        self._passed = 0  # bytes of the provider's stream that were passed on or are about to be
        self._begun = self._speaks = False
        self._settled = False
        self.bill: Bill | None = None
        self._ended = False
        self._left = False
        self._owed = b""  # the comment, when the last event had begun before we knew
        self._comments = charge.call.provider.comments
        self._last: int | None = None  # where the event begins that completes the answer, if it has come
        self._held = b""  # what waits: that event and all that came after it
        self._reads_on = charge.call.provider.reads_on(charge.call)
        self._stop_watching = nothing if self._reads_on else client.watch(self._leave)

    def _leave(self) -> None:
        self._left = True
        self._answer.abort()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        if not self._begun:  # the head leaves at once, however long the provider thinks before it writes
            self._begun = True
            return b""
        try:
            chunk = self._answer.read()
        except ProviderError as error:
            return self._broken(error)
        if self._left:
            self._see(chunk)  # perhaps the usage
            self.close()
            raise StopIteration
        return self._take(chunk) if chunk else self._end()

    def _take(self, chunk: bytes) -> bytes:
        """The chunk as it came, with a comment in front of the event that completes the answer."""
        self._passed += len(chunk)
        self._see(chunk)
        if not self._comments:
            return self._hold_back(chunk)
        if self._last is None or self._settled:
            return chunk
        comment = self._settle(interrupted=False)
        cut = self._last - (self._passed - len(chunk))
        if cut >= 0:
            return chunk[:cut] + comment + chunk[cut:]
        self._owed = comment
        return chunk

    def _hold_back(self, chunk: bytes) -> bytes:
        """What of the stream may go: all but the event that may be the last, as far as it hasn't gone."""
        ready = self._held + chunk
        cut = len(ready) if self._last is None else max(0, self._last - (self._passed - len(ready)))
        self._held = ready[cut:]
        return ready[:cut]

    def _see(self, chunk: bytes) -> None:
        """Reads the events that the chunk, or the end of the stream, completes."""
        for event in self._events.feed(chunk) if chunk else self._events.close():
            try:
                if self._watch.see(event):
                    self._last = event.start
                elif not self._comments:
                    self._last = None
            except UNREADABLE:
                log.warning("%s sent an event that can't be read", self._charge.call.provider.name)
        if not self._speaks and (self._watch.reading.pieces or self._watch.reading.sound_bytes):
            self._speaks = True
            self._charge.sight.speaks()

    def _end(self) -> bytes:
        """The provider has closed its stream: well, as far as anyone can tell."""
        self._ended = True
        self._see(b"")
        comment = self._owed if self._settled else self._settle(interrupted=False)
        self._close()
        return self._held + (comment if self._events.at_boundary else b"")

    def _broken(self, error: ProviderError) -> bytes:
        self._ended = True
        done = self._last is not None
        if not self._settled:
            self._settle(interrupted=not done)
        self._close()
        if done or self._left:
            return self._held
        self._charge.failed(error.status, error.message)
        return self._held + self._events.parting(self._charge.call.format.failure(error.message))

    def _settle(self, *, interrupted: bool) -> bytes:
        self._settled = True
        if self._events.skipped and not self._watch.reading.usage:  # it was in there, perhaps: all that is held, then
            self._watch.reading.text_bytes += sse.MAX_EVENT_BYTES
        self.bill = bill = self._charge.settle(self._watch.reading, status=self._answer.status, interrupted=interrupted)
        if bill is None or not self._comments:
            return b""
        return f": aipipe cost={show(bill.cost)} remaining={show(bill.remaining)}\n\n".encode()

    def _close(self) -> None:
        self._ended = True
        self._stop_watching()
        self._answer.close()

    def close(self) -> None:
        """The caller has all, or has left."""
        if self._ended:
            return
        if not self._settled and self._reads_on and not self._left:
            for _ in self:
                pass
            return
        self._ended = True
        if not self._settled:
            self._settle(interrupted=True)
        self._close()
