"""One table of bad input: every public function that takes people's data refuses it itself.

Each pair of an argument and a bad value must end in a `ValueError` that our own code raised: not in
a number that means nothing, and not in the words of a library three calls further down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import course_utils
from course_utils import (
    batching,
    datasets,
    imbalance,
    intervals,
    metrics,
    models,
    plotting,
    regularization,
    runtime,
    splits,
    thresholds,
)
from course_utils.history import History
from course_utils.intervals import Interval
from course_utils.metrics import ReliabilityBins
from tests import tiny

PACKAGE = Path(course_utils.__file__).parent
NAN, INF = math.nan, math.inf

# --- bad values -------------------------------------------------------------------------------

BAD_VECTORS = {
    "none": None,
    "empty": [],
    "a number": 3.0,
    "a str": "0101",
    "a dict": {0: 1, 1: 0},
    "strings": ["0", "1", "1", "0"],
    "a gap": [0, 1, None, 1],
    "nan": [0, 1, NAN, 1],
    "infinity": [0, 1, INF, 1],
    "a column": [[0], [1], [1], [0]],
    "ragged": [[0], [1, 1], [1], [0]],
    "too short": [0, 1],
    "dates": np.array(["2020-01-01"] * 4, dtype="M8[D]"),
}
BAD_CLASSES = BAD_VECTORS | {
    "not a class": [0, 1, 2, 1],
    "negative": [0, -1, 1, 1],
    "fractions": [0.5, 1.0, 0.0, 1.0],
}
BAD_NUMBERS = {"none": None, "a str": "1", "nan": NAN, "infinity": INF, "a list": [1.0]}
BAD_COUNTS = BAD_NUMBERS | {"a fraction": 1.5, "zero": 0, "negative": -1, "a bool": True}

# --- what takes them --------------------------------------------------------------------------

CLASSES = np.array([0, 1, 1, 0])
RIGHT = CLASSES == 1
SHARES = np.array([0.1, 0.9, 0.7, 0.4])
LOGITS = np.log(np.stack([1 - SHARES, SHARES], axis=1))
GENERATOR = np.random.default_rng(0)
TABLE = thresholds.threshold_table(CLASSES, SHARES)
LAYERS = [nn.Linear(2, 2), nn.Linear(2, 1)]

Call = Callable[[Any], object]
CLASS_ARGUMENTS: dict[str, Call] = {
    "class_scores labels": lambda x: metrics.class_scores(x, CLASSES, 2),
    "class_scores predictions": lambda x: metrics.class_scores(CLASSES, x, 2),
    "reliability_bins labels": lambda x: metrics.reliability_bins(SHARES, x),
    "expected_calibration_error labels": lambda x: metrics.expected_calibration_error(SHARES, x),
    "fit_temperature labels": lambda x: metrics.fit_temperature(LOGITS, x),
    "threshold_table labels": lambda x: thresholds.threshold_table(x, SHARES),
}
VECTOR_ARGUMENTS: dict[str, Call] = {
    "rating_scores ratings": lambda x: metrics.rating_scores(x, SHARES),
    "rating_scores predictions": lambda x: metrics.rating_scores(SHARES, x),
    "reliability_bins probabilities": lambda x: metrics.reliability_bins(x, CLASSES),
    "expected_calibration_error": lambda x: metrics.expected_calibration_error(x, CLASSES),
    "fit_temperature logits": lambda x: metrics.fit_temperature(x, CLASSES),
    "mcnemar first": lambda x: intervals.mcnemar(x, RIGHT),
    "mcnemar second": lambda x: intervals.mcnemar(RIGHT, x),
    "threshold_table probabilities": lambda x: thresholds.threshold_table(CLASSES, x),
}
# Each argument with the bad values that are bad for it.
ALONE = {name: value for name, value in BAD_CLASSES.items() if name != "too short"}
NAMES = {  # class names may be of any kind
    name: BAD_VECTORS[name]
    for name in ("none", "empty", "a number", "a str", "a dict", "a gap", "nan", "a column")
}
LESS_THAN_TWO = {"one value": [0.5], "one row": [[0.5, 0.5]]}
NOT_FINITE = {name: BAD_VECTORS[name] for name in ("none", "a str", "a gap", "nan", "infinity")}


def at_least_0(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "zero"}


def draws(statistic: Call, x: Any = SHARES, **options: Any) -> object:
    return intervals.bootstrap_interval(statistic, x, **({"resamples": 100} | options))


def rated(*ratings: float) -> list[datasets.Sentence]:
    return [datasets.Sentence(str(i), str(i), f"text {i}", r) for i, r in enumerate(ratings)]


def plotted(plotter: Callable[..., object], *arguments: Any, **options: Any) -> object:
    figure, ax = plt.subplots()
    try:
        return plotter(*arguments, ax, **options)
    finally:
        plt.close(figure)


def loader(data: object = None, **options: Any) -> object:
    data = tiny.dataset(0, 4) if data is None else data
    return batching.train_loader(data, **({"batch_size": 2} | options))  # type: ignore[arg-type]


TAKES: list[tuple[str, Call, dict[str, Any]]] = [
    *((name, call, BAD_CLASSES) for name, call in CLASS_ARGUMENTS.items()),
    *((name, call, BAD_VECTORS) for name, call in VECTOR_ARGUMENTS.items()),
    # metrics
    ("class_scores num_classes", lambda x: metrics.class_scores(CLASSES, CLASSES, x), BAD_COUNTS),
    ("rating_scores rows", lambda x: metrics.rating_scores(x, x), LESS_THAN_TWO),
    ("reliability_bins shares", lambda x: metrics.reliability_bins([0.5, x], [0, 1]), {"above": 2}),
    ("reliability_bins bins", lambda x: metrics.reliability_bins(SHARES, CLASSES, x), BAD_COUNTS),
    ("fit_temperature one logit", lambda x: metrics.fit_temperature(x, [0]), {"one": [[0.5]]}),
    ("bootstrap_interval rows", lambda x: draws(np.mean, x), NOT_FINITE | LESS_THAN_TWO),
    ("bootstrap_interval level", lambda x: draws(np.mean, level=x), BAD_NUMBERS | {"95": 95}),
    ("bootstrap_interval resamples", lambda x: draws(np.mean, resamples=x), BAD_COUNTS | {"9": 9}),
    ("bootstrap_interval seed", lambda x: draws(np.mean, seed=x), at_least_0(BAD_COUNTS)),
    ("bootstrap_interval statistic", lambda x: draws(lambda a: x), BAD_NUMBERS),
    (
        "bootstrap_interval a class missing",
        lambda x: draws(lambda a: 1.0 if set(a) == {0, 1} else NAN, x),
        {"rare": [0, 0, 0, 1]},
    ),
    ("seed_interval", intervals.seed_interval, BAD_VECTORS | LESS_THAN_TWO | {"too short": [1]}),
    ("seed_interval level", lambda x: intervals.seed_interval(SHARES, x), BAD_NUMBERS | {"95": 95}),
    ("Interval", lambda x: Interval(0.5, x, 0.6), {"nan": NAN, "infinity": INF}),
    # imbalance
    ("class_weights", lambda x: imbalance.class_weights(x, 2), ALONE | {"one class": [1, 1]}),
    ("class_weights C", lambda x: imbalance.class_weights(CLASSES, x), BAD_COUNTS),
    ("undersample", lambda x: imbalance.undersample(x, GENERATOR), NAMES | {"constant": [1, 1]}),
    ("oversample", lambda x: imbalance.oversample(x, GENERATOR), NAMES | {"constant": [1, 1]}),
    ("BalancedSampler", lambda x: imbalance.BalancedSampler(x, 2), NAMES | {"constant": [1, 1]}),
    ("BalancedSampler size", lambda x: imbalance.BalancedSampler(CLASSES, x), BAD_COUNTS),
    (
        "focal_loss gamma",
        lambda x: imbalance.focal_loss(torch.zeros(1, 2), torch.tensor([0]), x),
        BAD_NUMBERS | {"negative": -1},
    ),
    (
        "cascade_loss cuts",
        lambda x: imbalance.cascade_loss(torch.zeros(2, 2), torch.zeros(2), x),
        {"rising": (0, 1), "equal": (0, 0), "nan": (0, NAN), "one": (0,)},
    ),
    (
        "cascade_loss logits",
        lambda x: imbalance.cascade_loss(x, torch.zeros(2), (0.0,)),
        {"a vector": torch.zeros(2), "two columns": torch.zeros(2, 2)},
    ),
    ("threshold_table no rare row", lambda x: thresholds.threshold_table(x, x), {"zeros": [0, 0]}),
    ("ThresholdTable.cost", TABLE.cost, BAD_NUMBERS | {"negative": -1}),
    ("ThresholdTable.cheapest", lambda x: TABLE.cheapest(1, x), BAD_NUMBERS | {"negative": -1}),
    ("ThresholdTable.place", TABLE.place, {"nan": NAN}),
    (
        "undo_weight probabilities",
        lambda x: thresholds.undo_weight(x, 2.0),
        NOT_FINITE | {"above 1": [0.5, 1.5], "below 0": -0.1, "a number, nan": NAN},
    ),
    ("undo_weight weight", lambda x: thresholds.undo_weight(SHARES, x), BAD_NUMBERS | {"zero": 0}),
    ("cost_threshold", thresholds.cost_threshold, BAD_NUMBERS | {"negative": -1}),
    ("cost_threshold alarm", lambda x: thresholds.cost_threshold(1, x), BAD_NUMBERS),
    # regularization
    ("EarlyStopping", regularization.EarlyStopping, BAD_COUNTS),
    (
        "EarlyStopping min_gain",
        lambda x: regularization.EarlyStopping(2, x),
        BAD_NUMBERS | {"negative": -1},
    ),
    (
        "adversarial_noise epsilon",
        lambda x: regularization.adversarial_noise(torch.ones(2, 2), x),
        BAD_NUMBERS,
    ),
    ("layerwise_groups lr", lambda x: regularization.layerwise_groups(LAYERS, x, 0.5), BAD_NUMBERS),
    (
        "layerwise_groups parts",
        lambda x: regularization.layerwise_groups(x, 0.1, 0.5),
        {"none": [], "twice": [LAYERS[0], LAYERS[0]]},
    ),
    # batching
    ("RandomSampler size", lambda x: batching.RandomSampler(x, 2), BAD_COUNTS),
    ("RandomSampler batch_size", lambda x: batching.RandomSampler(4, x), BAD_COUNTS),
    ("RandomSampler seed", lambda x: batching.RandomSampler(4, 2, x), at_least_0(BAD_COUNTS)),
    ("EpochSampler.seek", lambda x: batching.RandomSampler(4, 2).seek(x), at_least_0(BAD_COUNTS)),
    (
        "SequentialSampler",
        lambda x: batching.SequentialSampler(x, 2),
        {"empty": [], "fractions": [0.5], "negative": [0, -1], "strings": ["a"]},
    ),
    (
        "BucketSampler",
        lambda x: batching.BucketSampler(x, 2),
        {"empty": [], "strings": ["a"], "nan": [NAN], "a gap": [1, None]},
    ),
    (
        "BucketSampler buckets",
        lambda x: batching.BucketSampler([3, 4], 1, bucket_batches=x),
        BAD_COUNTS,
    ),
    ("train_loader", loader, {"a list": ["a film"], "texts": "a film"}),
    ("train_loader batch_size", lambda x: loader(batch_size=x), BAD_COUNTS),
    (
        "train_loader sampler",
        lambda x: loader(sampler=x),
        {"a list": [[0, 1]], "of another dataset": batching.RandomSampler(5, 2)},
    ),
    ("eval_loader", batching.eval_loader, {"none": None, "a list": ["a film"]}),
    (
        "padding_share",
        lambda x: batching.padding_share(*x),
        {
            "no batch": ([1], []),
            "empty": ([1], [[]]),
            "strings": (["a"], [[0]]),
            "nan": ([NAN], [[0]]),
        },
    ),
    # models
    ("load_classifier", models.load_classifier, BAD_COUNTS),
    ("load_classifier seed", lambda x: models.load_classifier(2, seed=x), at_least_0(BAD_COUNTS)),
    ("load_encoder dropout", lambda x: models.load_encoder(dropout=x), BAD_NUMBERS | {"one": 1}),
    (
        "load_encoder attention",
        lambda x: models.load_encoder(attention=x),
        {"none": None, "unknown": "flash", "a list": ["sdpa"]},
    ),
    # runtime
    ("seed_everything", runtime.seed_everything, at_least_0(BAD_COUNTS) | {"large": 2**32}),
    ("pick_device", runtime.pick_device, {"a fraction": 0.5, "unknown": "gpu", "a list": ["cpu"]}),
    # datasets
    (
        "targets",
        lambda x: datasets.targets(rated(1, x), "binary"),
        {"nan": NAN, "infinity": INF},
    ),
    ("targets kind", lambda x: datasets.targets(rated(1), x), {"none": None, "unknown": "stars"}),
    ("load_corpus", datasets.load_corpus, {"none": None, "a list": ["movies"], "unknown": "books"}),
    (
        "split rows",
        lambda x: splits.split(x),
        {"empty": [], "one": rated(1), "two": rated(1, -1)},
    ),
    (
        "split seed",
        lambda x: splits.split(rated(*[1, -1] * 20), seed=x),
        at_least_0(BAD_COUNTS),
    ),
    (
        "split shares",
        lambda x: splits.split(rated(*[1, -1] * 20), train=x),
        {"nan": NAN, "zero": 0, "two": 2},
    ),
    (
        "Splits.unseal",
        lambda x: splits.Splits([], [], []).unseal(x),
        {"none": None, "blank": " ", "a number": 1},
    ),
    # plotting
    ("show alt", lambda x: plotting.show(plt.figure(), x), {"none": None, "short": "a plot"}),
    ("plot_history", lambda x: plotted(plotting.plot_history, x), {"nothing trained": History()}),
    (
        "plot_confusion",
        lambda x: plotted(plotting.plot_confusion, x, ["no", "yes"]),
        {"none": None, "empty": [], "not square": [[1, 2]], "three": np.ones((3, 3))}
        | {"nan": [[1, NAN], [0, 1]], "negative": [[1, -1], [0, 1]], "strings": [["a", "b"]] * 2},
    ),
    (
        "plot_reliability",
        lambda x: plotted(plotting.plot_reliability, x),
        {"empty": ReliabilityBins(*np.zeros((3, 2)))},
    ),
    ("plot_intervals", lambda x: plotted(plotting.plot_intervals, x, xlabel="x"), {"empty": {}}),
    (
        "plot_thresholds threshold",
        lambda x: plotted(plotting.plot_thresholds, TABLE, threshold=x),
        {"nan": NAN, "a str": "0.5"},
    ),
    (
        "plot_costs misses",
        lambda x: plotted(plotting.plot_costs, TABLE, misses=x),
        {"empty": [], "nan": [NAN], "negative": [-1], "strings": ["a"]},
    ),
    (
        "plot_attention",
        lambda x: plotted(plotting.plot_attention, x, ["a", "b"]),
        {"a row": [[1, 0]], "three": np.eye(3), "nan": [[1, NAN], [0, 1]]},
    ),
    (
        "plot_tokens",
        lambda x: plotted(plotting.plot_tokens, *x),
        {"empty": ([], []), "too few ids": (["a", "b"], [1])},
    ),
    (
        "plot_tokens line_width",
        lambda x: plotted(plotting.plot_tokens, ["a"], [1], line_width=x),
        BAD_COUNTS,
    ),
]
TABLE_OF_ALL = [
    pytest.param(call, value, id=f"{argument}: {name}")
    for argument, call, values in TAKES
    for name, value in values.items()
]


@pytest.mark.parametrize(("call", "value"), TABLE_OF_ALL)
@pytest.mark.filterwarnings("ignore")
def test_bad_input_is_refused_by_our_own_words(call, value):
    with pytest.raises(ValueError, match=r"\w") as error:
        call(value)
    raised_in = Path(error.traceback[-1].path)
    assert raised_in.is_relative_to(PACKAGE), f"{raised_in} says: {error.value}"
    assert len(str(error.value)) < 400


def test_the_same_calls_take_what_is_right():
    """Or the table above could be full of refusals of anything at all."""
    for call in CLASS_ARGUMENTS.values():
        call(CLASSES)
        call(CLASSES.tolist())
        call(torch.tensor(CLASSES))
    for name, call in VECTOR_ARGUMENTS.items():
        good = LOGITS if "temperature" in name else RIGHT if "mcnemar" in name else SHARES
        call(good)
        call(good.tolist())
        call(torch.tensor(good))
    draws(np.mean)
    draws(lambda x: torch.tensor(x).mean())
    imbalance.class_weights(CLASSES.tolist(), np.int64(2))
    imbalance.undersample(["b", "a", "a"], GENERATOR)
    thresholds.undo_weight(0.5, np.float32(2.0))
    assert thresholds.undo_weight([0.0, 0.5], 9).tolist() == [0.0, 0.1]
    loader(sampler=batching.RandomSampler(np.int64(4), np.int64(2)))
    plotted(plotting.plot_confusion, [[1, 2], [0, 1]], ["no", "yes"])
    plotted(plotting.plot_attention, torch.eye(2), ["a", "b"])


def test_correlations_of_a_constant_have_no_value_and_scipy_says_so():
    with pytest.warns(match="constant"):
        scores = metrics.rating_scores([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert math.isnan(scores.pearson)
    assert math.isnan(scores.spearman)
    assert scores.mean_absolute_error == 1.0
