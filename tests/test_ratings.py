"""Film ratings out of a pickle: read as pandas reads them, nothing called, divided by time."""

from __future__ import annotations

import io
import lzma
import pickle
from dataclasses import replace

import numpy as np
import pandas
import pytest

from course_utils.ratings import ALLOWED, Ratings, load_ratings, read_columns, visitors
from course_utils.sources import RATINGS, SOURCES, fetch


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return load_ratings()


def test_they_are_all_there_in_the_order_of_time(ratings):
    assert len(ratings) == 100_004
    assert len(np.unique(ratings.people)) == ratings.people.max() + 1 == 671
    assert len(np.unique(ratings.films)) == len(ratings.titles) == len(ratings.genres) == 9066
    assert (np.diff(ratings.times) >= 0).all()
    assert set(np.unique(ratings.stars)) == {n / 2 for n in range(1, 11)}
    assert np.nanmin(ratings.years) > 1900


def test_what_is_read_is_what_pandas_reads(ratings):
    """The wheel's own loader gives the file to pandas, which may call anything."""
    table = pandas.read_pickle(fetch(RATINGS), compression="xz")
    table = table.sort_values("timestamp", kind="stable")
    assert (table["timestamp"].to_numpy() == ratings.times).all()
    assert (table["rating"].to_numpy() == ratings.stars).all()
    titles = np.array(ratings.titles, dtype=object)[ratings.films]
    assert (table["title"].fillna("nan").to_numpy() == titles).mean() > 0.999
    assert len(set(zip(table["userId"], ratings.people, strict=True))) == 671


def test_one_lesson_alone_needs_them_and_no_package_is_kept():
    assert RATINGS in SOURCES
    assert RATINGS.optional
    assert RATINGS.sha256 != RATINGS.package_sha256
    assert sum(source.optional for source in SOURCES) == 1


class Asks:
    """Pickled, it asks for a function to be called when it is read."""

    def __init__(self, function: object, *words: object) -> None:
        self.call = function, words

    def __reduce__(self) -> object:
        return self.call


def test_nothing_else_is_called(tmp_path):
    target = tmp_path / "written"
    file = pickle.dumps(Asks(open, str(target), "w"))
    with pytest.raises(pickle.UnpicklingError, match=r"asks for \w+\.open: not opened"):
        read_columns(io.BytesIO(file))
    assert not target.exists()
    pickle.loads(file).close()  # what it would have done
    assert target.exists()


def test_what_a_name_gets_is_no_code_of_pandas():
    for (module, _), given in ALLOWED.items():
        assert module.partition(".")[0] in ("pandas", "numpy", "builtins")
        assert not getattr(given, "__module__", "").startswith("pandas")


def test_a_file_cut_short_is_an_error():
    with lzma.open(fetch(RATINGS)) as file:
        beginning = file.read(100_000)
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        read_columns(io.BytesIO(beginning))


def small() -> Ratings:
    """Person 0 comes before and after 100, person 1 after it, person 2 before."""
    rows = [  # person, film, stars, time
        (0, 0, 5.0, 10),
        (2, 1, 5.0, 20),
        (0, 1, 1.0, 30),
        (1, 2, 4.0, 110),
        (0, 3, 3.5, 120),
        (1, 0, 2.0, 130),
        (0, 2, 4.5, 140),
        (1, 3, 5.0, 150),
        (0, 4, 5.0, 160),
    ]
    people, films, stars, times = (np.array(column) for column in zip(*rows, strict=True))
    return Ratings(people, films, stars, times, tuple("abcde"), ("Drama",) * 5, np.full(5, 2000.0))


def test_a_division_by_time_by_hand():
    returning, new = visitors(small(), 100, known=1, least=1)
    assert (returning.person, returning.earlier) == (0, 2)
    assert returning.rated.tolist() == [0, 1, 3]  # two from before, one after
    assert returning.liked.tolist() == [0]
    assert returning.wanted.tolist() == [2, 4]
    assert (new.person, new.earlier) == (1, 0)
    assert (new.rated.tolist(), new.liked.tolist(), new.wanted.tolist()) == ([2], [2], [3])
    assert [v.person for v in visitors(small(), 100, known=1, least=2)] == [0]
    assert visitors(small(), 100, known=0, least=1)[1].wanted.tolist() == [2, 3]


def test_the_moment_itself_is_after_and_the_end_is_not_there():
    [returning, new] = visitors(small(), 110, known=1, least=1)
    assert (returning.earlier, new.earlier) == (2, 0)
    assert [v.person for v in visitors(small(), 110, until=150, known=1, least=1)] == [0]


def test_how_many_have_to_be_liked_if_nothing_else_is_said(ratings):
    wanted = [len(v.wanted) for v in visitors(ratings, float(np.quantile(ratings.times, 0.75)))]
    assert min(wanted) == 5


def test_what_comes_later_does_not_reach_back():
    ratings = small()
    changed = replace(ratings, stars=np.where(ratings.times >= 155, 0.5, ratings.stars))
    for before, after in zip(
        visitors(ratings, 100, until=155, known=1, least=1),
        visitors(changed, 100, until=155, known=1, least=1),
        strict=True,
    ):
        assert before.wanted.tolist() == after.wanted.tolist()


def test_what_is_known_is_older_than_what_is_wanted(ratings):
    moment = float(np.quantile(ratings.times, 0.75))
    found = visitors(ratings, moment)
    assert len(found) > 100
    for visitor in found:
        own = ratings.people == visitor.person
        when = dict(zip(ratings.films[own].tolist(), ratings.times[own].tolist(), strict=True))
        assert max(when[film] for film in visitor.rated) <= min(when[f] for f in visitor.wanted)
        assert not set(visitor.rated) & set(visitor.wanted)
        assert len(visitor.rated) == visitor.earlier + 10


@pytest.mark.parametrize(
    ("change", "words"),
    [({"known": -1}, "known must be at least 0"), ({"least": 0}, "least must be at least 1")],
)
def test_what_makes_no_division_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        visitors(small(), 100, **change)


def test_ratings_out_of_order_are_refused():
    ratings = small()
    with pytest.raises(ValueError, match="order of their times"):
        visitors(replace(ratings, times=ratings.times[::-1]), 100)
