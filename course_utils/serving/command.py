"""``course serve MODEL``: find the model, listen, and stop when told to.

A model that is not whole is refused before anything listens, with one sentence and exit code 1.
On SIGTERM (or Ctrl-C) nothing new is taken, what is under way is answered, and the exit code is 0.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

from uvicorn import Config, Server

from course_utils.artefacts import damage, load_artefact
from course_utils.serving.app import make_app
from course_utils.serving.connections import TimedConnection
from course_utils.serving.front import LOG, JsonLines
from course_utils.serving.limits import Limits
from course_utils.serving.predictor import Predictor
from course_utils.sources import cache_folder


def find_model(model: str, cache: Path | None = None) -> Path:
    """Return the folder of a model: a path, or the newest of a name in the cache.

    Raises
    ------
    RuntimeError
        If there is none, or its files are not as they were written.
    """
    kept = (cache or cache_folder()) / "models"
    folder = Path(model)
    if not folder.is_dir() and folder.name == model:  # a name, not a path
        named = [p for p in kept.glob(f"{model}-*") if p.is_dir() and p.name[:-17] == model]
        folder = max(named, key=lambda path: path.stat().st_mtime, default=folder)
    if not folder.is_dir():
        there = sorted({p.name[:-17] for p in kept.glob("*-*") if p.is_dir()})
        raise RuntimeError(
            f"there is no model {model}: give the folder of one, or a name from {kept} "
            f"({', '.join(there) or 'there is none yet'})"
        )
    if not (folder / "record.json").exists():
        inside = "".join(f"; did you mean {p.parent}?" for p in folder.glob("*/record.json"))
        raise RuntimeError(f"{folder} is not the folder of a model: no record.json in it{inside}")
    if wrong := damage(folder):
        raise RuntimeError(f"the model in {folder} is refused: {wrong}")
    return folder


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; return the exit code.

    Raises
    ------
    RuntimeError
        If the model is refused or a limit makes no sense.
    OSError
        If the address is taken.
    """
    try:
        limits = Limits(**{f.name: getattr(options, f.name) for f in fields(Limits)})
    except ValueError as error:
        raise RuntimeError(error) from None
    folder = find_model(options.model)
    _log_json()
    listening = socket.create_server((options.host, options.port), backlog=limits.connections)
    failures: list[str] = []

    def on_failure(why: str) -> None:
        failures.append(why)
        server.should_exit = True

    def load() -> Predictor:
        return Predictor(load_artefact(folder), precision=options.precision)

    app = make_app(load, limits, on_failure)
    server = Server(
        Config(
            app,
            http=TimedConnection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.receive,  # type: ignore[arg-type]  # it is given to call_later
            timeout_graceful_shutdown=limits.stop,  # type: ignore[arg-type]
        )
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    # For a signal that comes before uvicorn listens to them. After a graceful stop uvicorn raises
    # the signal once more, which would end the process with another exit code than 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if options.with_parent:
        threading.Thread(target=_follow, args=(os.getppid(), server), daemon=True).start()
    host, port = listening.getsockname()[:2]
    print(f"serving {folder.name} on http://{host}:{port} (Ctrl-C stops it)", flush=True)
    server.run(sockets=[listening])
    if failures:
        print(f"course: the model in {folder} is refused: {failures[0]}", file=sys.stderr)
    return 1 if failures else 0


def _follow(parent: int, server: Server) -> None:
    """Stop when the process that started this one has ended, whatever became of it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    server.should_exit = True


def _log_json() -> None:
    """Write the log to standard error, a JSON object a line; uvicorn's warnings too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOG.setLevel(logging.INFO)
