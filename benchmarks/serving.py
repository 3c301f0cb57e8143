"""Requests a second and their times, with and without micro-batching, in one run.

    python -m benchmarks.serving                       # 64 clients, two rounds, 5 minutes
    python -m benchmarks.serving --clients 16 --seconds 5 --only micro-batches one-at-a-time

Each way to serve runs as a process of its own on a free loopback port and is asked by locust
(another process on the same cores, which costs all of them the same): every client sends the next
review as soon as it has the answer to the last. All servers are started at once, and those that
are not asked wait, which costs nothing. What is counted begins when all clients are there. The ways
take turns: in each round another one is first. The model is the embedded encoder with a head of
random weights, as speed does not depend on what it learned.

Two of the ways are what people write first, in `benchmarks/naive_service.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import REVIEWS_VARIABLE
from course_utils.artefacts import made_of, trained
from course_utils.datasets import load_corpus
from course_utils.models import SentenceClassifier, load_classifier
from course_utils.movie_model import RATING_AND_CLASSES

SERVE = ("-m", "course_utils", "serve")
NAIVE = ("-m", "benchmarks.naive_service")
ALONE = ("--batch", "1", "--wait", "0")
WORKERS = ("--workers", "2")
BFLOAT16 = ("--precision", "bfloat16")
WAYS = {
    "micro-batches": (*SERVE, "{model}"),
    "micro-batches, two workers": (*SERVE, "{model}", *WORKERS),
    "micro-batches, two workers, bfloat16": (*SERVE, "{model}", *WORKERS, *BFLOAT16),
    "micro-batches, bfloat16": (*SERVE, "{model}", *BFLOAT16),
    "one-at-a-time": (*SERVE, "{model}", *ALONE),
    "one-at-a-time, bfloat16": (*SERVE, "{model}", *ALONE, *BFLOAT16),
    "in a thread each": (*NAIVE, "{model}", "threads"),
    "in the event loop": (*NAIVE, "{model}", "loop"),
}
BASELINE = "one-at-a-time"
START = 180  # seconds until a server must be ready


@dataclass(frozen=True)
class Load:
    """What the clients saw; times in milliseconds."""

    rate: float
    p50: float
    p95: float
    p99: float
    failures: int


def untrained() -> SentenceClassifier:
    """A model as large as lesson 05's."""
    return load_classifier(len(RATING_AND_CLASSES), seed=0)


@contextmanager
def serving(way: str, model: Path, threads: int) -> Iterator[Callable[[], str]]:
    """Start a server, and give a function that waits for it and returns its address.

    It has ended when the block is left.
    """
    command = [part.format(model=model) for part in WAYS[way]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )

        def ready() -> str:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            url = next((word for word in words if word.startswith("http")), "")
            end = time.monotonic() + START
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise SystemExit(f"{way} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.2)
            return url

        try:
            yield ready
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, clients: int, seconds: float, reviews: Path) -> Load:
    """Let locust ask for some seconds, counted once all clients are there."""
    command = [
        *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("clients.py"))),
        *("--headless", "--host", url, "--users", str(clients), "--spawn-rate", str(clients)),
        *("--run-time", f"{seconds:g}s", "--reset-stats", "--json", "--only-summary"),
        *("--stop-timeout", "20", "--exit-code-on-error", "0", "--loglevel", "ERROR"),
    ]
    done = subprocess.run(
        command,
        env=os.environ | {REVIEWS_VARIABLE: str(reviews)},
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    )
    try:
        [stats] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"locust failed:\n{done.stderr[-2000:]}") from None
    times = {float(ms): count for ms, count in stats["response_times"].items()}
    lasted = stats["last_request_timestamp"] - stats["start_time"]
    p50, p95, p99 = (percentile(times, share) for share in (0.5, 0.95, 0.99))
    done_well = stats["num_requests"] - stats["num_failures"]
    return Load(done_well / lasted, p50, p95, p99, stats["num_failures"])


def percentile(times: dict[float, int], share: float) -> float:
    """Return the time that this share of the requests did not exceed.

    >>> percentile({10.0: 90, 20.0: 9, 500.0: 1}, 0.95)
    20.0
    """
    left = share * sum(times.values())
    for value in sorted(times):
        left -= times[value]
        if left <= 0:
            return value
    return max(times)


def table(found: dict[str, list[Load]]) -> str:
    """Return the medians over rounds, beside the baseline's of the same run."""

    def median(way: str, what: str) -> float:
        return statistics.median(getattr(load, what) for load in found[way])

    lines = ["| | requests/s | x | p50 ms | p95 ms | p99 ms | failures |", "|" + "---|" * 7]
    for way in found:
        ratio = median(way, "rate") / median(BASELINE, "rate") if BASELINE in found else 1.0
        failures = sum(load.failures for load in found[way])
        p50, p95, p99 = (f"{median(way, what):.0f}" for what in ("p50", "p95", "p99"))
        lines.append(
            f"| {way} | {median(way, 'rate'):.1f} | {ratio:.2f} | {p50} | {p95} | {p99} "
            f"| {failures} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of the model")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    options = parser.parse_args(arguments)
    found: dict[str, list[Load]] = {way: [] for way in options.only}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        record = made_of({"seed": 0}, untrained, data="none")
        model = trained(
            "untrained", untrained, record, RATING_AND_CLASSES, takes="no time", cache=Path(folder)
        )
        reviews = Path(folder, "reviews.json")
        texts = [sentence.text for sentence in load_corpus("movies")[:4000]]
        reviews.write_text(json.dumps(texts), encoding="utf-8")
        started = {
            way: servers.enter_context(serving(way, model.folder, options.threads))
            for way in options.only
        }
        urls = {way: ready() for way, ready in started.items()}
        for number in range(options.rounds):
            turn = number % len(options.only)
            for way in options.only[turn:] + options.only[:turn]:
                found[way].append(ask(urls[way], options.clients, options.seconds, reviews))
                print(f"round {number + 1}: {way}: {found[way][-1]}", file=sys.stderr, flush=True)
    what = f"{options.clients} clients, {options.threads} threads"
    print(f"{what}, {options.rounds} rounds of {options.seconds:g} s; medians over rounds")
    print(table(found))


if __name__ == "__main__":
    main()
