"""ONNX files: for batches of any size, equal to their source, refused if they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from course_utils import exporting
from course_utils.exporting import (
    ExportError,
    export,
    from_file,
    from_model,
    largest_gap,
    open_session,
    to_int8,
    trial_batches,
)
from course_utils.models import SentenceClassifier

pytest.importorskip("onnxruntime")
VOCABULARY = 50


def model(seed: int = 0) -> SentenceClassifier:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    return SentenceClassifier(BertModel(config), 3).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path, source = tmp_path_factory.mktemp("onnx") / "model.onnx", model()
    return source, path, export(source, path)


def test_a_file_answers_as_its_source_on_batches_of_any_size(exported):
    source, path, gap = exported
    assert gap < 1e-5
    others = trial_batches(VOCABULARY, [(1, 1), (3, 11), (16, 5), (2, 40)], seed=7)
    assert largest_gap(from_model(source), from_file(path), others) < 1e-5


def test_another_models_file_is_another_model(exported):
    _, path, _ = exported
    assert largest_gap(from_model(model(1)), from_file(path), trial_batches(VOCABULARY)) > 1e-3


def test_int8_is_smaller_and_near(exported, tmp_path):
    source, path, _ = exported
    small = tmp_path / "int8.onnx"
    to_int8(path, small)
    gap = largest_gap(from_model(source), from_file(small), trial_batches(VOCABULARY))
    assert 0 < gap < 0.1
    assert b"MatMulInteger" in small.read_bytes()


def test_a_scale_for_each_row_loses_less(tmp_path):
    source = model()
    with torch.no_grad():
        source.encoder.encoder.layer[0].output.dense.weight[3] *= 30  # one row spoils one scale
    whole, batches, gaps = tmp_path / "model.onnx", trial_batches(VOCABULARY), []
    export(source, whole)
    for per_channel in (True, False):
        to_int8(whole, tmp_path / "int8.onnx", per_channel=per_channel)
        gaps.append(largest_gap(from_model(source), from_file(tmp_path / "int8.onnx"), batches))
    assert gaps[0] < 0.7 * gaps[1]


@pytest.mark.parametrize("disabled", [[], exporting.SLOW_FUSIONS])
def test_a_fusion_is_there_unless_it_is_switched_off(exported, tmp_path, disabled):
    _, path, _ = exported
    session = open_session(path, disabled_optimizers=disabled, profile=tmp_path / "profile")
    ids = np.ones((2, 5), dtype=np.int64)
    session.run(None, {"input_ids": ids, "attention_mask": ids})
    written = Path(session.end_profiling())
    assert written.parent == tmp_path
    assert ("SkipLayerNormalization" in written.read_text()) is (disabled == [])


def test_the_library_switches_slow_fusions_off(exported, monkeypatch):
    import onnxruntime

    asked = {}
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **named: asked.update(named))
    open_session(exported[1])
    assert asked["disabled_optimizers"] == list(exporting.SLOW_FUSIONS)


class Deaf(nn.Module):
    """Reads the mask while it is trained, and forgets it in the file: as exports have done."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask):
        recording = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        mask = torch.ones_like(attention_mask) if recording else attention_mask
        return self.inner(input_ids=input_ids, attention_mask=mask)


def test_an_export_that_lost_the_mask_is_refused(tmp_path):
    with pytest.raises(ExportError, match="differs from its source"):
        export(Deaf(model()).eval(), tmp_path / "deaf.onnx")


def test_a_model_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluation mode"):
        export(model().train(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_gap_that_is_no_number_is_infinite():
    def broken(batch):
        return np.full((len(batch), 3), np.nan)

    assert largest_gap(from_model(model()), broken, trial_batches(VOCABULARY)) == np.inf


def test_trial_batches_have_padding_and_one_text_alone():
    batches = trial_batches(VOCABULARY)
    assert len(batches[0]) == 1
    assert all((batch.attention_mask == 0).any() for batch in batches[1:])
    assert len({batch.input_ids.shape for batch in batches}) == len(batches)


@pytest.mark.parametrize(
    ("machine", "has", "overflows"),
    [
        ("x86_64", {"avx2": True}, True),
        ("AMD64", {"avx2": True}, True),  # as Windows calls it
        ("AMD64", {"avx2": True, "avx512_vnni": True}, False),
        ("arm64", {}, False),
    ],
)
def test_weights_get_seven_bits_where_sums_of_bytes_overflow(machine, has, overflows, monkeypatch):
    monkeypatch.setattr(exporting.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert exporting._overflows() is overflows
