"""Our losses beside those of trl's trainers, where it is installed: the course does not need it.

In an environment of its own, `pip install -c constraints.txt trl`, then this file.
"""

from __future__ import annotations

import pytest
import torch

from course_utils.generation import Wrapped
from course_utils.instructions import (
    Example,
    answer_log_probs,
    answer_loss,
    collate_examples,
    dpo_loss,
)
from tests import tiny_decoders

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

END = 2  # also the padding token: the trap
PAIRS = [
    {"prompt": "the film", "chosen": " the good", "rejected": " the bad one"},
    {"prompt": "a", "chosen": "b", "rejected": " and a long one"},
]


@pytest.fixture
def tokenizer():
    return tiny_decoders.tokenizer(eos_token="<|im_end|>", pad_token="<|im_end|>")


def examples(tokenizer, answer: str) -> list[Example]:
    found = []
    for pair in PAIRS:
        asked = tokenizer(pair["prompt"])["input_ids"]
        found.append(Example([*asked, *tokenizer(pair[answer])["input_ids"], END], len(asked)))
    return found


def settings(kind, folder, **options):
    return kind(
        output_dir=str(folder), per_device_train_batch_size=2, report_to=[], use_cpu=True,
        bf16=False, disable_tqdm=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("only_answers", [True, False])
def test_sft_asks_for_the_same_tokens(tokenizer, tmp_path, only_answers):
    model = tiny_decoders.llama()
    rows = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in PAIRS]
    trainer = trl.SFTTrainer(
        model=model,
        args=settings(trl.SFTConfig, tmp_path, completion_only_loss=only_answers),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    ours = collate_examples(examples(tokenizer, "chosen"), END, only_answers=only_answers)
    expected = answer_loss(Wrapped(model.eval()), ours).item()
    assert trainer.compute_loss(model, dict(batch)).item() == pytest.approx(expected, abs=1e-5)


def test_dpo_computes_the_same_loss(tokenizer, tmp_path):
    model, reference = tiny_decoders.llama(), tiny_decoders.llama(seed=1)
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=reference,
        args=settings(trl.DPOConfig, tmp_path, beta=0.5),
        train_dataset=datasets.Dataset.from_list(PAIRS),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    numbers = [
        answer_log_probs(Wrapped(m.eval()), collate_examples(examples(tokenizer, name), END))[0]
        for m in (model, reference)
        for name in ("chosen", "rejected")
    ]
    expected = dpo_loss(*numbers, beta=0.5).item()
    assert trainer.compute_loss(model, dict(batch)).item() == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-3)
