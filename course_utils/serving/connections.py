"""Clients that connect and say nothing, or a head that never ends.

uvicorn closes a connection that is idle after an answer, and waits for ever for the first request,
or for the rest of a head. Some hundred such connections (people call it Slowloris) and nobody else
gets in.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


class TimedConnection(H11Protocol):
    """A connection that must bring a whole head within the keep-alive time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._await_head()

    def _await_head(self) -> None:
        self.loop.call_later(self.timeout_keep_alive, self._close_if_none_since, self.cycle)

    def _close_if_none_since(self, last: RequestResponseCycle | None) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()
