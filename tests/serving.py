"""A tiny model to serve, a stand-in for it whose answers are known, and servers with a handle."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import BertConfig, BertModel
from uvicorn import Config, Server

from course_utils.artefacts import made_of, trained
from course_utils.models import SentenceClassifier
from course_utils.serving.app import make_app
from course_utils.serving.connections import TimedConnection
from course_utils.serving.limits import Limits
from course_utils.serving.predictor import Prediction

OUTPUTS = ("rating", "negative", "neutral", "positive")
SECONDS = 180  # for a process to start on a machine with much else to do
PATIENT = {"answer": 60.0, "receive": 60.0}  # the same machine, while it is asked


def make() -> SentenceClassifier:
    """One layer, random weights, and a head strong enough to tell texts apart."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = SentenceClassifier(BertModel(config), len(OUTPUTS)).eval()
        torch.nn.init.normal_(model.classifier.weight, std=2.0)
    return model


def tiny_artefact(cache: Path) -> Path:
    """The folder of a model as training leaves it."""
    record = made_of({"lr": 0.1}, make, data="d")
    return trained("tiny", make, record, OUTPUTS, cache=cache).folder


class Known:
    """In place of a predictor: the rating of a text is its length."""

    version = "known-1"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []
        self.may_go = threading.Event()
        self.may_go.set()
        self.began = threading.Event()

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        self.began.set()
        assert self.may_go.wait(60)
        time.sleep(self.seconds)
        self.batches.append(list(texts))
        if any("poison" in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        return [Prediction("long", {"long": 1.0}, float(len(t)), 3, False, 0.0) for t in texts]

    def card(self) -> dict[str, Any]:
        return {"version": self.version}


@contextlib.contextmanager
def listening(predictor: Callable[..., Any], **limits: Any) -> Iterator[str]:
    """The service on a free loopback port, in a thread of this process."""
    chosen = Limits(**PATIENT | limits)
    server = Server(
        Config(
            make_app(lambda: predictor, chosen),  # type: ignore[arg-type, return-value]
            http=TimedConnection,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=chosen.receive,  # type: ignore[arg-type]
            timeout_graceful_shutdown=1,
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        wait_until(lambda: is_ready(url))
        yield url
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


class Served:
    """``course serve`` as a process of its own, on a free loopback port."""

    def __init__(self, model: Path, log: Path, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "course_utils", "serve", str(model), "--port", str(port)]
        self.log = log
        with log.open("w") as errors:
            patient = [f"--{name}={seconds}" for name, seconds in PATIENT.items()]
            self.process = subprocess.Popen(
                [*command, *patient, *options], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        watchdog = threading.Timer(SECONDS, self.process.kill)  # so that readline ends
        watchdog.start()
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        watchdog.cancel()
        self.url = next((word for word in self.line.split() if word.startswith("http://")), "")

    def __enter__(self) -> Served:
        try:
            wait_until(lambda: self.process.poll() is not None or is_ready(self.url), SECONDS)
            assert self.process.poll() is None, self.log.read_text()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def ask(url: str, *texts: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={"texts": texts}, timeout=120)


def answers(url: str) -> bool:
    try:
        return ask(url, "a").status_code == 200
    except httpx.HTTPError:
        return False


def metrics(url: str) -> list[str]:
    return httpx.get(f"{url}/metrics", timeout=60).text.splitlines()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def connection(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def answer_on(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer, whole, from a connection that may stay open."""
    with http.client.HTTPResponse(client) as answer:
        answer.begin()
        return answer.status, answer.read()


def head(length: int | None, kind: str = "application/json") -> bytes:
    """The head of a request to /predict; without a length, its body comes in chunks."""
    body = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    lines = ("POST /predict HTTP/1.1", "Host: here", f"Content-Type: {kind}", body, "", "")
    return "\r\n".join(lines).encode()
