"""Who rated which film, how, and when: MovieLens' ratings, read from a pickle that may do little.

The data are MovieLens' (F. M. Harper and J. A. Konstan, "The MovieLens Datasets", 2015): 100,004
ratings of films by 671 people, with titles, genres and times. Their terms ask to be named, and
forbid passing the data on without leave and commercial use. So they are in no commit of this
project: each user fetches them with a package of other people's (`sources.RATINGS`).

The file is a pickle, and a pickle is a program: loading it calls whatever it names. The names that
this one needs are few, and for each of them stands here what it gets. Anything else is refused
before it is called. As nothing of pandas is called, no change in pandas can break it either.

Left out on purpose: learning from ratings, which is in lesson 16b.
"""

import lzma
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from course_utils.inputs import finite_number, whole_number
from course_utils.sources import RATINGS, fetch


@dataclass(frozen=True)
class Ratings:
    """N ratings in the order of their times, by people 0 to P - 1, of films 0 to F - 1.

    Attributes
    ----------
    people, films : int arrays of shape (N,)
    stars : float array of shape (N,)
        From 0.5 to 5.
    times : int array of shape (N,)
        Seconds since 1970.
    titles : tuple of F str
    genres : tuple of F str
        Such as ``"Comedy, Drama"``.
    years : float array of shape (F,)
        When the film came out; NaN where it is not said.
    """

    people: np.ndarray
    films: np.ndarray
    stars: np.ndarray
    times: np.ndarray
    titles: tuple[str, ...]
    genres: tuple[str, ...]
    years: np.ndarray

    def __len__(self) -> int:
        return len(self.people)


class _Table:
    """What the pickle calls a DataFrame: an object that gets attributes, and does nothing."""


# What the file may ask for, and what it gets.
ALLOWED: dict[tuple[str, str], Any] = {
    ("pandas.core.frame", "DataFrame"): _Table,
    ("pandas.core.internals.managers", "BlockManager"): lambda blocks, axes: (blocks, axes),
    ("pandas._libs.internals", "_unpickle_block"): lambda values, place, _: (values, place),
    ("pandas.core.indexes.base", "Index"): object,
    ("pandas.core.indexes.range", "RangeIndex"): object,
    ("pandas.core.indexes.base", "_new_Index"): lambda _, state: state,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): lambda _, shape, code: np.ndarray(shape, code),
    ("numpy.core.numeric", "_frombuffer"): lambda data, kind, shape, order: np.frombuffer(
        data, kind
    ).reshape(shape, order=order),
    ("builtins", "slice"): slice,
}


class CarefulUnpickler(pickle.Unpickler):
    """An unpickler that knows the names in `ALLOWED`, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name.

        Raises
        ------
        UnpicklingError
            If the name is not in `ALLOWED`. Nothing has been called then.
        """
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"this file asks for {module}.{name}: not opened")
        return ALLOWED[module, name]


def read_columns(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Read a pickled DataFrame of numbers and strings as one array for each column.

    Raises
    ------
    UnpicklingError
        If the file asks for anything but what such a table needs.
    """
    blocks, axes = CarefulUnpickler(file).load().__dict__["_mgr"]
    names = axes[0]["data"]
    columns: dict[str, np.ndarray] = {}
    for values, place in blocks:  # a block holds the columns of one type, place says which
        numbers = range(len(names))[place] if isinstance(place, slice) else place
        columns |= {str(names[n]): row for n, row in zip(numbers, values, strict=True)}
    return columns


def load_ratings(cache: Path | None = None) -> Ratings:
    """Return all ratings, fetching them on first use.

    Raises
    ------
    DataError
        If the data cannot be fetched or verified; it says how to bring them.
    """
    with lzma.open(fetch(RATINGS, cache)) as file:
        columns = read_columns(file)
    order = np.argsort(columns["timestamp"], kind="stable")
    _, people = np.unique(columns["userId"], return_inverse=True)
    _, first, films = np.unique(columns["movieId"], return_index=True, return_inverse=True)
    return Ratings(
        people[order],
        films[order],
        columns["rating"][order],
        columns["timestamp"][order],
        tuple(str(title) for title in columns["title"][first]),
        tuple(str(genres).replace("|", ", ") for genres in columns["genres"][first]),
        columns["year"][first],
    )


@dataclass(frozen=True)
class Visitor:
    """A person who comes after a moment: what may be known of them, and what is to be foreseen.

    Attributes
    ----------
    person : int
    earlier : int
        How many of the known ratings are from before the moment; 0 for a new person.
    rated : int array
        The films of which a rating is known, in order of time.
    liked : int array
        Those of them that they liked.
    wanted : int array
        The films that they liked later.
    """

    person: int
    earlier: int
    rated: np.ndarray
    liked: np.ndarray
    wanted: np.ndarray


def visitors(
    ratings: Ratings,
    moment: float,
    *,
    until: float = np.inf,
    known: int = 10,
    least: int = 5,
    like: float = 4.0,
) -> list[Visitor]:
    """Divide what each person does from a moment on: a few known ratings, then what to foresee.

    Parameters
    ----------
    ratings : Ratings
        In the order of their times, as `load_ratings` gives them.
    moment, until : float
        Seconds since 1970. Ratings from `until` on do not exist for this division.
    known : int
        How many ratings after the moment are known, the first ones. All from before it are.
    least : int
        People who like fewer films than that afterwards are left out.
    like : float
        Stars from which a film counts as liked.

    Raises
    ------
    ValueError
        If `known` is negative, `least` below 1, or the ratings are not in the order of time.
    """
    known, least = whole_number(known, "known", least=0), whole_number(least, "least", least=1)
    like = finite_number(like, "like")
    if (np.diff(ratings.times) < 0).any():
        raise ValueError("ratings must be in the order of their times: sort them first")
    found = []
    for person in range(int(ratings.people.max()) + 1):
        rows = np.flatnonzero((ratings.people == person) & (ratings.times < until))
        earlier = int((ratings.times[rows] < moment).sum())
        seen, later = rows[: earlier + known], rows[earlier + known :]
        liked, wanted = (part[ratings.stars[part] >= like] for part in (seen, later))
        if len(wanted) >= least:
            films = ratings.films
            found.append(Visitor(person, earlier, films[seen], films[liked], films[wanted]))
    return found
