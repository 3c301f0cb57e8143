"""Where the time of a training step goes, and what two ways to save some of it would gain.

    python -m benchmarks.step                           # in the precision that `fit` chooses here
    python -m benchmarks.step --precision float32 --reviews 160
    python -m benchmarks.step --wall                    # on a quiet machine

The first table divides the profiled time of `training_steps` among kinds of work. The second
compares whole epochs with a lever and without, in turn in one process, by processor time, which
other work disturbs little, or by the wall's clock, by which work that one thread does alone while
the other waits counts twice:
dropout masks drawn from 16 random bits each, and an embedding whose gradient is kept and cleaned
row by row. Neither is in the library; benchmarks/README.md says why.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from benchmarks.training import BATCH_SIZE, LR, flops_per_example, load_data, matmul_rate
from course_utils.batching import TokenizedDataset, train_loader
from course_utils.models import load_classifier
from course_utils.optimization import MixedPrecision, make_optimizer, make_schedule
from course_utils.runtime import memory_kept, pick_device, seed_everything
from course_utils.training import training_steps

Clock = Callable[[], float]
KINDS = {  # of work, by the operators that do it
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "drawing dropout masks": ("aten::bernoulli_", "aten::native_dropout"),
    "filling with zeros": ("aten::fill_", "aten::zero_", "Optimizer.zero_grad#AdamW.zero_grad"),
    "the optimiser": ("aten::_fused_adamw_", "Optimizer.step#AdamW.step"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::to", "aten::clone"),
    "norms of gradients": ("aten::linalg_vector_norm", "aten::_foreach_norm"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "softmax and LayerNorm": (
        "aten::_softmax",
        "aten::_softmax_backward_data",
        "aten::native_layer_norm",
        "aten::native_layer_norm_backward",
    ),
}


class BitDropout(nn.Module):
    """Dropout whose mask takes 16 random bits an element instead of a random float."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero each number with probability p, in training mode only."""
        return bit_dropout(x, self.p, self.training)


def bit_dropout(x: torch.Tensor, p: float, training: bool, inplace: bool = False) -> torch.Tensor:
    """Return x with each number zeroed with probability p (to 1 in 65,536)."""
    if not training or p == 0:
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    bits = words.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[: x.numel()]
    kept = bits.view(x.shape) >= round(p * 2**16) - 2**15
    return x * (kept.to(x.dtype) / (1 - p))


class KeptGradient(torch.autograd.Function):
    """Look up rows; write their gradient into one tensor that is kept and cleaned by row."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, owner: nn.Module) -> Any:
        """Return the rows, shape (B, T, D)."""
        ctx.ids, ctx.owner = ids.flatten(), owner
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        """Put the gradient where the optimiser looks for it, past autograd's own way."""
        owner, weight = ctx.owner, ctx.owner.weight
        if weight.grad is None:
            owner.kept.index_fill_(0, owner.rows, 0.0)
            owner.rows = ctx.ids
        owner.kept.index_add_(0, ctx.ids, gradient.reshape(-1, gradient.shape[-1]).float())
        weight.grad = owner.kept
        return None, None, None


class KeptEmbedding(nn.Module):
    """An embedding with `KeptGradient`."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight
        self.kept = torch.zeros_like(self.weight)
        self.rows = torch.zeros(0, dtype=torch.int64)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of these ids."""
        return KeptGradient.apply(self.weight, ids, self)


def use_bit_dropout(module: nn.Module) -> None:
    """Replace every dropout module below this one."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Dropout):
            setattr(module, name, BitDropout(child.p))
        else:
            use_bit_dropout(child)


class Arm:
    """A model with some levers, and all that an epoch of training needs."""

    def __init__(self, data: TokenizedDataset, precision: Any, clock: Clock, *levers: str) -> None:
        self.levers, self.clock, self.examples = levers, clock, len(data)
        self.model = load_classifier(2, seed=0)
        if "dropout" in levers:
            use_bit_dropout(self.model)
        if "embedding" in levers:
            words = self.model.encoder.embeddings
            words.word_embeddings = KeptEmbedding(words.word_embeddings)
        self.model.to(pick_device())
        self.loader = train_loader(data, BATCH_SIZE, seed=0)
        self.optimizer = make_optimizer(self.model, LR)
        self.schedule = make_schedule(self.optimizer, total=100_000)
        self.precision = MixedPrecision(self.model, precision)

    def epoch(self) -> float:
        """Train one epoch; return the examples per second of its clock."""
        plain, start = functional.dropout, self.clock()
        if "dropout" in self.levers:  # attention drops its weights with the function
            functional.dropout = bit_dropout
        try:
            loss_fn = nn.functional.cross_entropy
            with memory_kept():
                for _ in training_steps(
                    self.model, self.loader, loss_fn, self.optimizer, self.schedule, self.precision
                ):
                    pass
        finally:
            functional.dropout = plain
        return self.examples / (self.clock() - start)


def shares(arm: Arm) -> dict[str, float]:
    """Return the share of an epoch's time that each kind of work takes."""
    cuda = pick_device().type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with profile(activities=activities) as found:
        arm.epoch()
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    times: Counter[str] = Counter()
    for event in found.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        times[kind_of.get(event.key, "all else")] += spent
    return {kind: spent / times.total() for kind, spent in times.most_common()}


def main() -> None:
    """Profile, compare, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--reviews", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wall", action="store_true", help="the wall's clock")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.wall else time.process_time

    seed_everything(0)
    data, _ = load_data(arguments.reviews)
    plain = Arm(data, arguments.precision, clock)
    dtype, threads = getattr(torch, plain.precision.name), torch.get_num_threads()
    plain.epoch()  # warms up
    print(f"{pick_device()}, {threads} threads, {plain.precision.name}, {len(data)} reviews\n")
    print("| a training step | share of its time |\n|---|---|")
    for kind, share in shares(plain).items():
        print(f"| {kind} | {share:.1%} |")
    if pick_device().type != "cpu":
        return
    arms = {"as it is": plain, "dropout": Arm(data, arguments.precision, clock, "dropout")}
    arms["embedding"] = Arm(data, arguments.precision, clock, "embedding")
    arms["both"] = Arm(data, arguments.precision, clock, "dropout", "embedding")
    for arm in arms.values():
        arm.epoch()
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(arguments.rounds):
        for name, arm in arms.items():
            speeds[name].append(arm.epoch())
    print("\n| lever | gain, median |\n|---|---|")
    for name, found in speeds.items():
        gains = [a / b for a, b in zip(found, speeds["as it is"], strict=True)]
        print(f"| {name} | {statistics.median(gains):.2f} |")
    reached = flops_per_example(data, 0) * statistics.median(speeds["as it is"])
    rate = matmul_rate(dtype, clock=clock)
    print(f"\nIt computes {reached / rate:.0%} of the rate of a 1024 x 1024 matrix product.")


if __name__ == "__main__":
    main()
