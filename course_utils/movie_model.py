"""The model of lesson 05, found in the cache or trained again: later lessons begin with it.

Left out on purpose: a choice of recipe. Whoever wants another one trains a model of another name.
"""

from dataclasses import asdict
from pathlib import Path

from course_utils.artefacts import Artefact, made_of, trained
from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import load_corpus, targets
from course_utils.models import SentenceClassifier, load_classifier, load_tokenizer
from course_utils.recipe import Recipe
from course_utils.runtime import seed_everything
from course_utils.sources import REVIEWS
from course_utils.splits import split
from course_utils.tasks import rating_and_class_loss
from course_utils.training import fit

MOVIE_RECIPE = Recipe(epochs=2, lr=1e-4, validate_every=166)
RATING_AND_CLASSES = ("rating", "negative", "neutral", "positive")


def train_movie_model() -> SentenceClassifier:
    """Train as lesson 05 does: half of the movie reviews, two epochs, rating and three classes."""
    splits, tokenizer = split(load_corpus("movies")), load_tokenizer()
    train, validation = (
        TokenizedDataset([r.text for r in part], targets(part, "rating"), tokenizer)
        for part in (splits.train, splits.validation)
    )
    seed_everything(0)
    model = load_classifier(len(RATING_AND_CLASSES), seed=0)
    loaders = train_loader(train, batch_size=16), eval_loader(validation)
    fit(model, *loaders, rating_and_class_loss, MOVIE_RECIPE)
    return model


def movie_model(cache: Path | None = None) -> Artefact:
    """Return lesson 05's model: the rating of a movie review, and its three classes."""
    record = made_of(asdict(MOVIE_RECIPE) | {"seed": 0}, train_movie_model, REVIEWS.sha256)
    takes = "two to eight minutes on two cores"
    return trained(
        "movie-ratings", train_movie_model, record, RATING_AND_CLASSES, takes=takes, cache=cache
    )
