"""How much of everything the service takes.

Whatever a client can make large has an end here: bytes, texts, characters, places in the queue,
seconds, connections. A service without ends is stopped by its first careless user.
"""

from dataclasses import dataclass

from course_utils.inputs import above_0, finite_number, whole_number


@dataclass(frozen=True)
class Limits:
    """The service's limits; each can be set on the command line.

    Attributes
    ----------
    body : int
        Bytes of a request.
    texts : int
        Texts of a request.
    characters : int
        Characters of a text.
    workers : int
        Threads that compute, each its own batch; they share the cores.
    queue : int
        Texts that may wait; a request that finds no room is refused at once.
    batch : int
        Texts computed together.
    wait : float
        Seconds the first of a batch waits for others; 0 takes whoever is there.
    answer : float
        Seconds until a client that got no answer is told to come back later.
    receive : float
        Seconds for a request to arrive: once for its head, once for its body.
    stop : float
        Seconds for what is under way when the service is told to stop.
    connections : int
        Open connections; more are answered 503.

    Raises
    ------
    ValueError
        If one of them is no number, or out of its range.

    Examples
    --------
    >>> Limits(batch=1, wait=0).batch
    1
    """

    body: int = 65_536
    texts: int = 32
    characters: int = 2_000
    workers: int = 1
    queue: int = 256
    batch: int = 32
    wait: float = 0.005
    answer: float = 10.0
    receive: float = 5.0
    stop: float = 10.0
    connections: int = 512

    def __post_init__(self) -> None:
        for name in ("body", "texts", "characters", "workers", "queue", "batch", "connections"):
            whole_number(getattr(self, name), name, least=1)
        for name in ("answer", "receive", "stop"):
            above_0(getattr(self, name), name)
        finite_number(self.wait, "wait", least=0)
        if self.wait >= self.answer:
            raise ValueError(
                f"a batch must not wait for others ({self.wait:g} s) for as long as a client waits "
                f"for its answer ({self.answer:g} s)"
            )
        if self.queue < self.texts:
            raise ValueError(
                f"the queue must hold a whole request: {self.texts} texts do not fit into "
                f"{self.queue} places"
            )
