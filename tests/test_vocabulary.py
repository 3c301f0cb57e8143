"""A vocabulary of one's own: the same each time, and of Chinese the characters."""

from __future__ import annotations

import pytest

from course_utils.vocabulary import CLS, MASK, PAD, SEP, SPECIAL, UNK, train_vocabulary

TEXTS = ["很好 很好看", "不好看 abc abcd", "手机 abc 不错 xyzab", "good GOOD phone phones"] * 3


def test_chinese_is_read_by_characters_and_latin_by_pieces():
    tokenizer = train_vocabulary(TEXTS, 60)
    assert tokenizer.tokenize("很好看") == ["很", "好", "看"]
    assert tokenizer.tokenize("ABC abc") == ["abc", "abc"]
    assert tokenizer.tokenize("慢") == ["[UNK]"]


def test_special_tokens_have_the_first_numbers_and_pairs_have_segments():
    tokenizer = train_vocabulary(TEXTS, 60, max_tokens=16)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [PAD, UNK, CLS, SEP, MASK]
    encoded = tokenizer("好", "看")
    assert encoded["input_ids"][0] == CLS
    assert encoded["input_ids"].count(SEP) == 2
    assert tokenizer("好", "看", return_token_type_ids=True)["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer.model_max_length == 16
    assert tokenizer.pad_token_id == PAD


def test_it_is_the_same_on_each_run():
    """Hash tables are seeded anew for each, in the library that learns the pieces."""
    first = train_vocabulary(TEXTS, 50).get_vocab()
    assert all(train_vocabulary(TEXTS, 50).get_vocab() == first for _ in range(5))


def test_what_cannot_be_learned_from_is_refused():
    for texts in ([], "a text"):
        with pytest.raises(ValueError, match="at least one"):
            train_vocabulary(texts, 60)
    with pytest.raises(ValueError, match="size must be at least 6"):
        train_vocabulary(TEXTS, 5)
