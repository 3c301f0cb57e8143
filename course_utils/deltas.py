"""What of a model was trained: counted, saved, loaded.

A task that was learned by training few weights is a small file beside one large one. The file holds
what was trained, whatever that is: adapters, a head, biases.

Left out on purpose: a format of adapters with their settings, such as `peft` writes. Whoever loads
a file here has adapted the model in the same way before, and is told if not.
"""

from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from course_utils.system import write_atomically


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what of a model is trained, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return how many bytes tensors take.

    Examples
    --------
    >>> bytes_of([torch.zeros(3, 2), torch.zeros(5, dtype=torch.bfloat16)])
    34
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def save_trained(model: nn.Module, path: Path | str) -> None:
    """Write what of a model is trained, and nothing else, as safetensors.

    Raises
    ------
    ValueError
        If nothing is.
    """
    tensors = {name: value.contiguous().cpu() for name, value in trained_tensors(model).items()}
    if not tensors:
        raise ValueError("no parameter is trainable: there is nothing to save")
    write_atomically(Path(path), lambda file: file.write(safetensors.torch.save(tensors)))


@torch.no_grad()
def load_trained(model: nn.Module, path: Path | str) -> None:
    """Read what `save_trained` wrote into a model that was adapted in the same way.

    Raises
    ------
    ValueError
        If the file is damaged, or holds other names or shapes than what the model trains. The
        model is then as it was.
    """
    ours = trained_tensors(model)
    try:
        theirs = safetensors.torch.load(Path(path).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from None
    shapes = [{name: tuple(t.shape) for name, t in tensors.items()} for tensors in (theirs, ours)]
    if shapes[0] != shapes[1]:
        differing = sorted(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise ValueError(
            f"{path} was not saved from a model that was adapted like this one; they differ in "
            f"{sorted(set(differing))[:4]}"
        )
    for name, value in theirs.items():
        ours[name].copy_(value)
