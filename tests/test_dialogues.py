"""The dialogues: whole, as published, with their copies; and splits that these do not cross."""

from __future__ import annotations

from collections import Counter

import pytest

from course_utils.dialogues import (
    REWORDED,
    UNANSWERABLE,
    Exchange,
    distinct,
    load_exchanges,
    split_exchanges,
)
from course_utils.retrieval import words_of


def test_all_topics_are_there_and_half_of_the_rows_are_copies():
    rows = load_exchanges()
    count, different = (Counter(each.topic for each in part) for part in (rows, distinct(rows)))
    assert len(count) == 21
    assert (len(rows), len(distinct(rows))) == (2025, 898)
    assert (count["tech_support"], different["tech_support"]) == (1050, 10)
    assert (count["coding"], different["coding"]) == (184, 98)
    assert all(each.question and each.answer for each in rows)


def test_no_question_and_no_answer_stands_on_both_sides():
    rows = load_exchanges()
    train, test = split_exchanges(rows, (0.7, 0.3), seed=1)
    assert sorted([*train, *test]) == list(range(len(rows)))
    for part in ("question", "answer"):
        ours, theirs = (
            {" ".join(words_of(getattr(rows[i], part))) for i in side} for side in (train, test)
        )
        if part == "question":
            assert not ours & theirs - {""}
    answers = [{rows[i].answer.lower() for i in side} for side in (train, test)]
    assert not answers[0] & answers[1]


def test_each_topic_has_its_share_in_each_part():
    rows = distinct(load_exchanges())
    train, _ = split_exchanges(rows, (0.6, 0.4), seed=0)
    for topic in ("trivia", "coding", "ai"):
        mine = [i for i, each in enumerate(rows) if each.topic == topic]
        assert 0.5 < len(set(mine) & set(train)) / len(mine) < 0.7


def test_another_seed_makes_another_split():
    rows = distinct(load_exchanges())
    first, again, other = (split_exchanges(rows, (0.5, 0.5), seed)[0] for seed in (0, 0, 1))
    assert first == again != other


def test_every_rewording_belongs_to_a_question_and_is_not_in_the_corpus():
    questions = {each.question for each in load_exchanges()}
    lowered = {question.lower() for question in questions}
    for question, text in REWORDED:
        assert question in questions
        assert text.lower() not in lowered
    texts = [text for _, text in REWORDED] + list(UNANSWERABLE)
    assert len(set(texts)) == len(texts) == 72
    assert not lowered & {text.lower() for text in UNANSWERABLE}


def test_rewordings_share_few_words_with_what_they_reword():
    """Or a search by words would find them by their wording."""
    common = []
    for question, text in REWORDED:
        theirs, ours = set(words_of(question)), set(words_of(text))
        common.append(len(theirs & ours) / len(ours))
    assert sum(common) / len(common) < 0.2


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (0.0, 1.0), ((0.5, 0.5),)])
def test_impossible_shares_are_refused(shares):
    rows = [Exchange("a", str(i), str(i)) for i in range(4)]
    with pytest.raises(ValueError, match="need two shares"):
        split_exchanges(rows, shares, seed=0)
