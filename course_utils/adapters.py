r"""Few weights to train beside many frozen ones: LoRA, adapters, soft prompts.

All three leave the pretrained weights as they are and put something small beside them. What one
more task costs, in memory and on disk, is then only what is small.

From E. Hu et al., "LoRA" (2022); N. Houlsby et al., "Parameter-Efficient Transfer Learning for
NLP" (2019); B. Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning" (2021).
Lesson 09 builds every piece and checks it against `peft`.

Left out on purpose: the many relatives (AdaLoRA, IA3, prefixes), which `peft` has.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.inputs import above_0, whole_number
from course_utils.models import freeze


def features_of(layer: nn.Module) -> tuple[int, int]:
    """Return how long a linear layer's inputs and outputs are.

    Raises
    ------
    ValueError
        If it has no whole ``in_features`` and ``out_features``.

    Examples
    --------
    >>> features_of(nn.Linear(3, 2))
    (3, 2)
    """
    d_in, d_out = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if not isinstance(d_in, int) or not isinstance(d_out, int):
        raise ValueError(f"need a linear layer, got {type(layer).__name__}")
    return d_in, d_out


class LoRALinear(nn.Module):
    r"""A frozen linear layer, and beside it a change of low rank that is trained.

    .. math:: W x + b + \frac{\alpha}{r}\, B (A x)

    B is zero at first: an adapted model begins as the pretrained one.

    Parameters
    ----------
    base : nn.Linear, or a module that acts like one
        Takes (..., D_in), gives (..., D_out), and has ``in_features`` and ``out_features``, such
        as a layer with 4-bit weights. Its parameters are frozen here.
    rank : int
        r, the width of the bottleneck.
    alpha : float
        The change is scaled by alpha / r, so that a rate that suits one rank suits another.
    dropout : float
        Probability of zeroing a number on the way into A, while training.

    Attributes
    ----------
    A : Parameter of shape (r, D_in)
    B : Parameter of shape (D_out, r)
    merged : bool
        True while the change is part of the base's weights.
    """

    def __init__(
        self, base: nn.Module, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        rank = whole_number(rank, "rank", least=1)
        d_in, d_out = features_of(base)
        w = getattr(base, "weight", None)  # 4-bit layers have none of which to read a type
        like: dict[str, Any] = {} if w is None else {"dtype": w.dtype, "device": w.device}
        freeze(base)
        self.base: Any = base
        self.dropout = nn.Dropout(dropout)
        self.A = nn.Parameter(torch.empty(rank, d_in, **like))
        self.B = nn.Parameter(torch.zeros(d_out, rank, **like))
        self.scale = above_0(alpha, "alpha") / rank
        self.original: Tensor | None = None
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear begins

    @property
    def merged(self) -> bool:
        """Say whether the change is part of the base's weights now."""
        return self.original is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return what the changed layer makes of x, shape (..., D_out)."""
        if self.merged:
            if self.training:
                raise RuntimeError("a merged change is not trained any more: unmerge first")
            return self.base(x)
        return self.base(x) + self.scale * (self.dropout(x) @ self.A.T @ self.B.T)

    def change(self) -> Tensor:
        """Return the change of the weights, shape (D_out, D_in)."""
        return self.scale * (self.B @ self.A)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to the base's weights: from now on it costs nothing."""
        if self.merged:
            return
        weight = getattr(self.base, "weight", None)
        if weight is None:
            raise ValueError(f"{type(self.base).__name__} has no weights to merge into")
        self.original = weight.detach().clone()
        weight += self.change()

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the base's own weights back, bit for bit: subtracting would leave rounding."""
        if self.original is not None:
            self.base.weight.copy_(self.original)
            self.original = None


class AdapterLinear(nn.Module):
    r"""A frozen linear layer, and after it a small network that is trained.

    .. math:: h + U\, \mathrm{GELU}(D h + d) + u, \qquad h = W x + b

    U is zero at first. Houlsby et al. put one after each of the two projections that end the
    halves of a transformer's block, before the sum with what went round it.

    Parameters
    ----------
    base : nn.Linear, or a module that acts like one
    width : int
        Of the bottleneck.
    """

    def __init__(self, base: nn.Module, width: int = 32) -> None:
        super().__init__()
        width = whole_number(width, "width", least=1)
        _, d_out = features_of(base)
        freeze(base)
        self.base = base
        self.down, self.up = nn.Linear(d_out, width), nn.Linear(width, d_out)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what base and adapter make of x, shape (..., D_out)."""
        h = self.base(x)
        return h + self.up(nn.functional.gelu(self.down(h)))


class SoftPrompt(nn.Module):
    """Vectors that are trained, put before the word vectors of every text.

    What the model says of these positions is cut off again, so that it can stand where the
    model stood: the encoder of a classifier, say.

    Parameters
    ----------
    base : PreTrainedModel
        Any that takes ``inputs_embeds``. It is frozen here.
    length : int
        P, how many vectors.
    seed : int
        Decides from which rows of the word table they begin.
    """

    def __init__(self, base: Any, length: int = 16, *, seed: int = 0) -> None:
        super().__init__()
        length = whole_number(length, "length", least=1)
        freeze(base)
        table = base.get_input_embeddings().weight
        rows = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))[:length]
        self.base, self.config = base, base.config
        self.prompt = nn.Parameter(table.detach()[rows.to(table.device)].clone())  # (P, D)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Return the model's own output, for the T positions of the text."""
        B, P = len(input_ids), len(self.prompt)
        words = self.base.get_input_embeddings()(input_ids)  # (B, T, D)
        x = torch.cat([self.prompt.expand(B, -1, -1), words], dim=1)  # (B, P + T, D)
        mask = torch.cat([attention_mask.new_ones(B, P), attention_mask], dim=1)
        output = self.base(inputs_embeds=x, attention_mask=mask)
        for name in {"last_hidden_state", "logits"} & set(output.keys()):
            output[name] = output[name][:, P:]
        return output


# --- put into a model ---------------------------------------------------------------------


def adapt(
    model: nn.Module,
    targets: Sequence[str],
    wrap: Callable[[nn.Module], nn.Module],
    *,
    also: Sequence[str] = (),
    seed: int = 0,
) -> list[str]:
    """Freeze a model, then wrap some of its layers in something that is trained.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    targets : sequence of str
        Ends of names, such as ``query``: every module whose name ends in one is wrapped.
    wrap : callable
        Gets a layer, gives the module for its place: ``lambda layer: LoRALinear(layer, rank=4)``.
    also : sequence of str
        Modules that are trained as they are. A new head belongs here: it is nobody's
        pretrained weights, and frozen it stays noise.
    seed : int
        Decides the first weights; the global random state is left as it was.

    Returns
    -------
    list of str
        The names of what was wrapped.

    Raises
    ------
    ValueError
        If a target fits no module, or one that is wrapped already, or a name in `also` is none.

    Examples
    --------
    >>> model = nn.ModuleDict({"query": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    >>> adapt(model, ["query"], lambda layer: LoRALinear(layer, rank=1), also=["head"])
    ['query']
    >>> [name for name, p in model.named_parameters() if p.requires_grad]
    ['query.A', 'query.B', 'head.weight', 'head.bias']
    """
    if isinstance(targets, str) or isinstance(also, str):
        raise ValueError("targets and also must be lists of names, got a string")
    modules = dict(model.named_modules())
    found = {t: [n for n in modules if n == t or n.endswith(f".{t}")] for t in targets}
    for target, names in found.items():
        if not names:
            raise ValueError(f"no module's name ends in {target!r}")
    chosen = [name for name in modules if any(name in names for names in found.values())]
    for name in chosen:
        if any(isinstance(m, LoRALinear | AdapterLinear) for m in modules[name].modules()):
            raise ValueError(f"{name} is wrapped already: a second adapter would train on it")
    if strangers := [name for name in also if name not in modules]:
        raise ValueError(f"no module is named {strangers}; the model has {list(modules)[1:]}")
    freeze(model)
    with torch.random.fork_rng():
        torch.manual_seed(whole_number(seed, "seed", least=0))
        for name in chosen:
            parent, _, child = name.rpartition(".")
            setattr(modules[parent], child, wrap(modules[name]).train(modules[name].training))
    for name in also:
        modules[name].requires_grad_(True)
    return chosen


def lora_layers(model: nn.Module) -> list[LoRALinear]:
    """Return the LoRA layers of a model."""
    return [module for module in model.modules() if isinstance(module, LoRALinear)]


def merge(model: nn.Module) -> None:
    """Make the change of every LoRA layer part of its weights."""
    for layer in lora_layers(model):
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Put every LoRA layer's own weights back, bit for bit."""
    for layer in lora_layers(model):
        layer.unmerge()
