"""Tables such as people bring along, and an encoder so small that a whole run takes seconds."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from course_utils.models import load_tokenizer, quiet_loading

GOOD = ["lovely", "excellent", "charming", "brilliant", "moving", "superb"]
BAD = ["dreadful", "boring", "clumsy", "awful", "tedious", "weak"]
THINGS = ["film", "plot", "actor", "scene", "ending", "music", "script", "camera"]


def save_tiny_encoder(folder: Path) -> Path:
    """A BERT of one narrow layer with random weights, and the embedded encoder's vocabulary."""
    tokenizer = load_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(), quiet_loading():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return folder


def reviews(count: int = 120, seed: int = 0) -> list[tuple[str, str]]:
    """Different texts, each with its label; one word decides."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = ("good", "bad")[number % 2]
        word = draw.choice(GOOD if label == "good" else BAD)
        first, second = draw.sample(THINGS, 2)
        rows.append((f"The {first} was {word}, the {second} less so, says viewer {number}.", label))
    return rows


def as_csv(rows: list[tuple[str, ...]], names: tuple[str, ...] = ("text", "label"), **how) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **how)
    writer.writerows([names, *rows])
    return out.getvalue()


def write_csv(path: Path, rows: list[tuple[str, ...]], names=("text", "label")) -> Path:
    path.write_bytes(as_csv(rows, names).encode())
    return path
