"""A trained classifier as an ONNX file: written, compared with its source, put into eight bits.

ONNX is a file format for a model's graph: which operations, in which order, on which weights.
ONNX Runtime computes such a graph without PyTorch and without Python between the operations. The
packages come with ``pip install 'fine-tuning-from-scratch[export]'``.

An export can go wrong without an error: inputs in another order, a shape or a mask of the example
kept for ever. So `export` does not return before the file has given its source's answers on
padded batches of several sizes.

Left out on purpose: static quantisation, which measures the ranges of activations beforehand. For
a transformer on a CPU the ranges are cheap to take as they come.
"""

import io
import logging
import platform
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from course_utils.batching import Batch, Example, collate
from course_utils.inputs import above_0, whole_number

if TYPE_CHECKING:
    import onnxruntime

Run = Callable[[Batch], np.ndarray]
INPUTS = ("input_ids", "attention_mask")
# A sum and its LayerNorm in one: several times the time of the two where lesson 13 measured it.
SLOW_FUSIONS = ("SkipLayerNormFusion",)
SIZES = ((1, 4), (2, 7), (5, 3), (8, 24))  # texts in a batch, and the longest one's tokens


class ExportError(RuntimeError):
    """The exported file does not answer as its source does."""


class _Logits(nn.Module):
    """What is exported: two tensors to one, as a graph has it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export(model: nn.Module, path: Path | str, *, tolerance: float = 1e-3) -> float:
    """Write a classifier as an ONNX file for batches of any size; return the largest difference.

    Parameters
    ----------
    model : nn.Module
        Called as ``model(input_ids=..., attention_mask=...).logits``, on the CPU in float32.
    path : Path or str
        The file to write.
    tolerance : float
        How far the file's logits may be from the model's.

    Raises
    ------
    ValueError
        If the model is in training mode, whose dropout the file would keep.
    ExportError
        If the file answers differently on one of `trial_batches`. The file stays, to be looked at.
    """
    if model.training:
        raise ValueError("put the model in evaluation mode first: a file would keep its dropout")
    vocabulary = next(m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding))
    example = trial_batches(vocabulary)[-1]
    B, T = torch.export.Dim("batch"), torch.export.Dim("tokens")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of its own packages and operators
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Logits(model),
                (example.input_ids, example.attention_mask),
                str(path),
                input_names=list(INPUTS),
                output_names=["logits"],
                dynamic_shapes=({0: B, 1: T}, {0: B, 1: T}),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logging.disable(level)
    run = from_file(path, threads=1)
    gap = largest_gap(from_model(model), run, trial_batches(vocabulary))
    if not gap <= above_0(tolerance, "tolerance"):
        raise ExportError(f"{path} differs from its source by {gap:.3g}, more than {tolerance:g}")
    return gap


def trial_batches(
    vocabulary: int, sizes: Sequence[tuple[int, int]] = SIZES, seed: int = 0
) -> list[Batch]:
    """Return batches of random tokens: several sizes, one text alone, padding in all others.

    Examples
    --------
    >>> [tuple(batch.input_ids.shape) for batch in trial_batches(100)]
    [(1, 4), (2, 7), (5, 3), (8, 24)]
    >>> [int((batch.attention_mask == 0).sum()) > 0 for batch in trial_batches(100)]
    [False, True, True, True]
    """
    generator = np.random.default_rng(whole_number(seed, "seed", least=0))
    batches = []
    for count, longest in sizes:
        lengths = [longest, *generator.integers(1, longest, count - 1)]
        rows = [generator.integers(1, vocabulary, length).tolist() for length in lengths]
        batches.append(collate([Example(i, ids, 0) for i, ids in enumerate(rows)]))
    return batches


def largest_gap(source: Run, other: Run, batches: Sequence[Batch]) -> float:
    """Return the largest difference between two models' logits; infinity if one is not a number.

    Examples
    --------
    >>> ones, twos = lambda batch: np.ones(3), lambda batch: np.array([2.0, 1.0, 1.0])
    >>> largest_gap(ones, twos, trial_batches(100))
    1.0
    """
    gaps = [np.abs(source(batch) - other(batch)).max() for batch in batches]
    return float(np.nan_to_num(max(gaps), nan=np.inf))


def from_model(model: nn.Module) -> Run:
    """Return a function from a batch to a model's logits, as an array of shape (B, C)."""

    @torch.inference_mode()
    def run(batch: Batch) -> np.ndarray:
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits: np.ndarray = output.logits.float().numpy()
        return logits

    return run


def from_file(path: Path | str, *, threads: int | None = None) -> Run:
    """Return a function from a batch to the logits that ONNX Runtime computes by a file.

    Parameters
    ----------
    path : Path or str
    threads : int, optional
        As many as PyTorch uses if not given: two pools of threads on the same cores wait for
        each other.
    """
    session = open_session(path, threads=threads)

    def run(batch: Batch) -> np.ndarray:
        feed = {name: getattr(batch, name).numpy() for name in INPUTS}
        logits: np.ndarray = session.run(None, feed)[0]
        return logits

    return run


def open_session(
    path: Path | str,
    *,
    threads: int | None = None,
    disabled_optimizers: Sequence[str] = SLOW_FUSIONS,
    profile: Path | str | None = None,
) -> "onnxruntime.InferenceSession":
    """Return ONNX Runtime's session of a file, on the CPU.

    Parameters
    ----------
    path : Path or str
    threads : int, optional
        As many as PyTorch uses if not given.
    disabled_optimizers : sequence of str
        Changes of the graph that ONNX Runtime would make when it loads the file, and shall not.
    profile : Path or str, optional
        Where the path of a file begins that `InferenceSession.end_profiling` writes and names:
        one event for each operation.
    """
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = (
        torch.get_num_threads() if threads is None else whole_number(threads, "threads", least=1)
    )
    options.log_severity_level = 3  # errors only
    # Threads that wait in a loop would take the cores from PyTorch, or from a second session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(
        str(path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled_optimizers),
    )


def to_int8(
    path: Path | str,
    quantized: Path | str,
    *,
    per_channel: bool = True,
    reduce_range: bool | None = None,
) -> None:
    """Write an ONNX file's weights as int8; activations are rounded while it runs.

    Each product's input has one scale, taken from its own range: "dynamic" quantisation. Word
    vectors are stored in int8, too.

    Parameters
    ----------
    path, quantized : Path or str
        The file to read and the file to write.
    per_channel : bool
        Each of a layer's outputs has a scale for its weights. Otherwise the matrix has one.
    reduce_range : bool, optional
        Weights of seven bits. x86 processors without VNNI add two products of a byte by a byte in
        sixteen bits, where full ranges are cut off without an error. If not given, so for those.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a step that is only for images
    try:
        quantize_dynamic(
            Path(path),
            Path(quantized),
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            reduce_range=_overflows() if reduce_range is None else reduce_range,
        )
    finally:
        logging.disable(level)


def _overflows() -> bool:
    """Return True for an x86 processor that is not known to have VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return not any("vnni" in name and here for name, here in found.items())
