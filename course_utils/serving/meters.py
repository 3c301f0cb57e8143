"""What is counted, in Prometheus' format at ``/metrics``.

Rates, errors and durations of requests say whether clients are served; batch sizes and the queue
say whether there is room; lengths and unknown tokens say whether the texts are still those the
model was trained for. Names and labels are few and fixed: a label with a client's words in it
would make a new series for each.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from course_utils.serving.predictor import Prediction

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
TEXTS = (1, 2, 4, 8, 16, 32, 64)
TOKENS = (8, 16, 32, 64, 128, 256, 512)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


class Meters:
    """All counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "request_seconds", "From head to answer", ["path"], buckets=SECONDS, registry=registry
        )
        self.under_way = Gauge("requests_under_way", "Not answered yet", registry=registry)
        self.queue = Gauge("queue_texts", "Texts that wait for the model", registry=registry)
        self.batches = Histogram(
            "batch_texts", "Texts computed together", buckets=TEXTS, registry=registry
        )
        self.model_seconds = Histogram(
            "batch_seconds", "Seconds of one batch", buckets=SECONDS, registry=registry
        )
        self.tokens = Histogram(
            "text_tokens", "Tokens of a text", buckets=TOKENS, registry=registry
        )
        self.unknown = Histogram(
            "text_unknown_share",
            "Tokens of a text that are not in the vocabulary",
            buckets=SHARES,
            registry=registry,
        )
        self.labels = Counter("labels", "Texts by label, or tag", ["label"], registry=registry)
        self.truncated = Counter("texts_truncated", "Texts that were cut", registry=registry)
        self.model = Gauge("model", "Always 1", ["version"], registry=registry)

    def on_batch(self, texts: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(texts)
        self.model_seconds.observe(seconds)

    def on_answer(self, predictions: Sequence[Prediction]) -> None:
        """Count what was said of the texts of a request."""
        for prediction in predictions:
            self.tokens.observe(prediction.tokens)
            self.unknown.observe(prediction.unknown)
            self.truncated.inc(prediction.truncated)
            for name in prediction.tags or (prediction.label or "none",):
                self.labels.labels(name).inc()

    def text(self) -> bytes:
        """Return all of it, as Prometheus reads it."""
        return generate_latest(self.registry)
