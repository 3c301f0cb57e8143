"""What a short run says about the learning rate, and what a long one says: lesson 05's question.

    python -m benchmarks.learning_rate                         # 320 reviews, once: 20 steps
    python -m benchmarks.learning_rate --reviews 5302 --epochs 2          # 664 steps each

Both lengths are judged by the loss of lesson 05's real run, a rating and three classes, on the
validation reviews, beside the loss of a model that does not read: so the two can be compared.
"""

import argparse

import numpy as np
import torch
from torch.nn import functional

from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import Sentence, load_corpus, targets
from course_utils.models import load_classifier, load_tokenizer
from course_utils.recipe import Recipe
from course_utils.runtime import seed_everything
from course_utils.splits import split
from course_utils.training import fit, rating_loss

CUTS = torch.tensor([-0.5 + 1e-6, 0.5 - 1e-6])  # negative; neutral; positive


def two_head_loss(outputs: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
    """Return the loss of outputs (B, 4), a rating and the logits of three classes."""
    classes = torch.bucketize(ratings, CUTS.to(ratings.device))
    loss = rating_loss(outputs[:, :1], ratings)
    return loss + functional.cross_entropy(outputs[:, 1:], classes)


def loss_without_reading(train: torch.Tensor, validation: torch.Tensor) -> float:
    """Return the loss of saying the mean rating and the share of each class to every review."""
    shares = torch.bucketize(train, CUTS).bincount(minlength=3) / len(train)
    constant = torch.cat([train.mean()[None], shares.log()])
    return two_head_loss(constant.expand(len(validation), 4), validation).item()


def main() -> None:
    """Train once for each rate and seed, and print the validation loss at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-5, 5e-5, 1e-4, 2e-4, 4e-4])
    parser.add_argument("--reviews", type=int, default=320, help="training examples per run")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()

    splits, tokenizer = split(load_corpus("movies")), load_tokenizer()

    def dataset(reviews: list[Sentence]) -> TokenizedDataset:
        return TokenizedDataset([r.text for r in reviews], targets(reviews, "rating"), tokenizer)

    validation = dataset(splits.validation)
    ratings = [torch.as_tensor(data.labels) for data in (dataset(splits.train), validation)]
    print(f"without reading: {loss_without_reading(*ratings):.3f}", flush=True)
    for seed in arguments.seeds:
        rows = np.random.default_rng(seed).permutation(len(splits.train))[: arguments.reviews]
        few = dataset([splits.train[i] for i in rows])
        for lr in arguments.rates:
            seed_everything(seed)
            history = fit(
                load_classifier(4, seed=seed),
                train_loader(few, batch_size=16, seed=seed),
                eval_loader(validation),
                two_head_loss,
                Recipe(epochs=arguments.epochs, lr=lr),
                progress=False,
            )
            steps, loss = history.steps[-1].step, history.evaluations[-1].loss
            print(f"lr {lr:.0e}, seed {seed}: {loss:.3f} after {steps} steps", flush=True)


if __name__ == "__main__":
    main()
