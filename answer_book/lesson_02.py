"""Items of lesson 02: cleaning, a split, WordPiece, padding, buckets; and a leaking preparation."""

import html
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from course_utils.grading.calls import lesson_02 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Symptom
from course_utils.grading.rules import lesson_02 as rules

TEXT = """
a an the film movie plot scene actor script humour story music ending it is was feels runs never
warm dull clever slow lovely tired funny flat moving long brave thin honest and but
"""
WORDS = TEXT.split()


def sentence(generator: np.random.Generator, length: int) -> str:
    """Return some words in a row."""
    return " ".join(generator.choice(WORDS, length).tolist())


# --- cleaning, and a record of it -------------------------------------------------------------


def clean_cases(generator: np.random.Generator) -> list[Case]:
    """Scars of every kind, alone and together, between texts that need nothing."""

    def said(form: str) -> str:
        return form.format(*(sentence(generator, int(generator.integers(1, 5))) for _ in range(3)))

    forms = {
        "nothing to mend": ["{} AT&T, {}", "Not {} <3 {}", "{}"],
        "entities": ["{} &lt;3 {}", "{} &amp;amp; {} &quot;{}&quot;", "{}", "{} &amp;#38; {}"],
        "white space": ["  {}", "{}  {}", "{}\t{}\n{}", "{}", "{} "],
        "both, also in one text": ["{}&nbsp; {}", "{} &amp;nbsp;", "{}&#9;&#9;{}", "{} &amp; {}"],
        "no text at all": [],
    }
    return [Case(name, {"texts": [said(form) for form in of]}) for name, of in forms.items()]


Cleaned = tuple[list[str], dict[str, int]]


def decode(text: str) -> str:
    """Decode entities until nothing changes."""
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def mend(text: str) -> str:
    """Reduce white space."""
    return " ".join(text.split())


def _clean(
    first: Callable[[str], str] = decode,
    then: Callable[[str], str] = mend,
    counts_raw: bool = False,
    keeps: Callable[[str], bool] = lambda text: True,
) -> Callable[[list[str]], Cleaned]:
    """Return the cleaning with other steps, or with the second count taken from the raw text."""

    def clean(texts: list[str]) -> Cleaned:
        decoded = [first(text) for text in texts]
        tidy = [then(text) for text in decoded]
        record = {
            "entities": sum(a != b for a, b in zip(texts, decoded, strict=True)),
            "white_space": sum(
                a != b for a, b in zip(texts if counts_raw else decoded, tidy, strict=True)
            ),
        }
        return [text for text in tidy if keeps(text)], record

    return clean


def clean_spaces_first(texts: list[str]) -> Cleaned:
    tidy = [mend(text) for text in texts]
    decoded = [decode(text) for text in tidy]
    return decoded, {
        "entities": sum(a != b for a, b in zip(tidy, decoded, strict=True)),
        "white_space": sum(a != b for a, b in zip(texts, tidy, strict=True)),
    }


def clean_counts_marks(texts: list[str]) -> Cleaned:
    cleaned, record = _clean()(texts)
    found = sum(len(re.findall(r"&#?\w+;", text)) for text in texts)
    return cleaned, {**record, "entities": found}


def clean_no_record(texts: list[str]) -> list[str]:
    return _clean()(texts)[0]


def without_signs(text: str) -> str:
    """Drop punctuation too: what tutorials do."""
    return mend(re.sub(r"[^\w\s]", "", text))


SPACES = "white space is more than blanks in the middle: tabs, line ends, both ends of the text"
TOO_MUCH = (
    "too much is cleaned: capitals and punctuation carry meaning, and so does a heart made of <3"
)

CLEAN = Item(
    name="02.clean",
    title="Cleaning that keeps a record",
    difficulty=1,
    importance=3,
    minutes=10,
    points=2,
    cases=clean_cases,
    reference=_clean(),
    withheld=(
        "course_utils.datasets.clean_text",
        "course_utils.datasets.decode_entities",
        "course_utils.datasets.mend_spaces",
    ),
    diagnoses=(
        Mistake(
            "decoded_once",
            "decoded once: some entities were encoded twice, so go on until nothing changes",
            _clean(first=html.unescape),
        ),
        Mistake("not_decoded", "no entity is decoded: html.unescape", _clean(first=str)),
        Mistake(
            "spaces_first",
            "white space is mended first, and decoding brings in more of it: &nbsp; is a blank",
            clean_spaces_first,
        ),
        Mistake("some_spaces", SPACES, _clean(then=str.strip)),
        Mistake("some_spaces", SPACES, _clean(then=lambda text: re.sub(r"\s+", " ", text))),
        Mistake("some_spaces", SPACES, _clean(then=lambda text: re.sub(" +", " ", text).strip())),
        Mistake("some_spaces", SPACES, _clean(then=str)),
        Mistake(
            "counted_from_raw",
            "the texts are right, the record is not: white_space counts what mending changed in "
            "the *decoded* text, or an entity is counted under both names",
            _clean(counts_raw=True),
        ),
        Mistake(
            "marks_counted",
            "the texts are right, the record is not: it counts texts that were changed, not marks",
            clean_counts_marks,
        ),
        Mistake("too_much", TOO_MUCH, _clean(then=lambda text: mend(text).lower())),
        Mistake("too_much", TOO_MUCH, _clean(then=without_signs)),
        Mistake(
            "no_record", "the texts are right; the record is missing beside them", clean_no_record
        ),
        Symptom(
            "entities_left",
            "some texts still hold an entity: decode until nothing changes",
            rules.entities_left,
        ),
        Symptom("some_spaces", SPACES, rules.spaces_left),
        Symptom(
            "record_wrong",
            "the texts are right, the record is not: a dict with two counts of texts, how many "
            "decoding changed, and how many of the decoded ones mending white space changed",
            rules.record_wrong,
        ),
    ),
)


# --- a split that keeps documents whole -------------------------------------------------------


def with_seeds(name: str, inputs: dict[str, Any]) -> list[Case]:
    """Return a case for each of several seeds, and two of them again from another global state."""
    calls = [(seed, 1) for seed in range(5)] + [(seed, 2) for seed in range(2)]
    return [
        Case(
            f"{name}, seed {seed}{' again' * (state > 1)}", inputs | {"seed": seed, "state": state}
        )
        for seed, state in calls
    ]


def hold_out_cases(generator: np.random.Generator) -> list[Case]:
    """Documents of 1 to 7 sentences, most of them of one class throughout."""
    cases = []
    for name, documents, share in (("90 documents", 90, 0.2), ("150 documents", 150, 0.3)):
        of_class = generator.choice(3, documents, p=[0.5, 0.15, 0.35])
        sizes = generator.choice([1, 1, 2, 4, 7], documents)
        rows = np.repeat(np.arange(documents), sizes)  # (N,)
        labels = of_class[rows]
        odd = generator.random(len(rows)) < 0.05
        labels[odd] = generator.integers(0, 3, odd.sum())
        order = generator.permutation(len(rows))
        names = [f"d{number}" for number in rows[order]]
        inputs = {"documents": names, "labels": labels[order], "share": share}
        cases += with_seeds(name, inputs)
    return cases


def by_document(documents: list[str]) -> list[list[int]]:
    """Return the rows of each document."""
    rows_of = defaultdict(list)
    for row, document in enumerate(documents):
        rows_of[document].append(row)
    return list(rows_of.values())


def fill(groups: list[list[int]], labels: np.ndarray, share: float) -> list[int]:
    """Take groups in this order as long as there is room in every class."""
    room = share * np.bincount(labels)  # (C,)
    chosen: list[int] = []
    for group in groups:
        counts = np.bincount(labels[group], minlength=len(room))
        if (counts <= room).all():
            room -= counts
            chosen += group
    return chosen


def shuffled(groups: list[Any], seed: int | None) -> list[Any]:
    """Return the groups in random order."""
    return [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]


def hold_out(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    """Go through the documents in random order, and take each one that there is room for."""
    return fill(shuffled(by_document(documents), seed), labels, share)


def hold_out_rows(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    return fill(shuffled([[row] for row in range(len(labels))], seed), labels, share)


def hold_out_plain(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    groups = shuffled(by_document(documents), seed)
    return [row for group in groups[: round(share * len(groups))] for row in group]


def hold_out_sklearn(
    documents: list[str], labels: np.ndarray, share: float, seed: int
) -> list[int]:
    groups = shuffled(by_document(documents), seed)
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= share * len(labels):
            chosen += group
    return chosen


def hold_out_rest(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    return sorted(set(range(len(labels))) - set(hold_out(documents, labels, share, seed)))


def hold_out_first(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    return fill(by_document(documents), labels, share)


def hold_out_unseeded(
    documents: list[str], labels: np.ndarray, share: float, seed: int
) -> list[int]:
    groups = by_document(documents)
    np.random.shuffle(groups)
    return fill(groups, labels, share)


def hold_out_mask(documents: list[str], labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    return np.isin(np.arange(len(labels)), hold_out(documents, labels, share, seed))


NOT_REPEATED = (
    "the same seed gives another result the second time: make a generator from the seed, "
    "np.random.default_rng(seed), and shuffle with that one"
)
SEED_IGNORED = (
    "every seed gives the same result: the seed must reach a generator, and the generator a shuffle"
)
UNBALANCED = (
    "documents stay whole, but the classes do not have their share: what one document brings "
    "has to be counted by class"
)

HOLD_OUT = Item(
    name="02.hold_out",
    title="A stratified split that keeps documents whole",
    difficulty=3,
    importance=5,
    minutes=20,
    points=3,
    cases=hold_out_cases,
    reference=hold_out,
    call=calls.held_out_rows,
    agree=rules.good_hold_out,
    together=rules.repeats_and_varies,
    apart=True,
    withheld=("course_utils.splits.split", "course_utils.splits.deal"),
    diagnoses=(
        Symptom(
            "not_rows",
            "row numbers are wanted, each once: neither True and False nor names of documents",
            rules.not_rows,
            hold_out_mask,
        ),
        Symptom("not_repeated", NOT_REPEATED, rules.not_repeated, hold_out_unseeded),
        Symptom("seed_ignored", SEED_IGNORED, rules.seed_ignored, hold_out_first),
        Symptom(
            "divided",
            "a leak: some documents have sentences on both sides. Choose documents, not rows",
            rules.some_divide,
            hold_out_rows,
        ),
        Symptom(
            "the_rest",
            "these are the rows to train on: wanted are the ones held out",
            rules.the_rest,
            hold_out_rest,
        ),
        Symptom("unbalanced", UNBALANCED, rules.some_unbalanced, hold_out_plain),
        Symptom("unbalanced", UNBALANCED, rules.some_unbalanced, hold_out_sklearn),
    ),
)


# --- WordPiece: longest match first -----------------------------------------------------------

LONG_WORDS = (
    "unflinching",
    "masterpiece",
    "intriguing",
    "hilarious",
    "sentimental",
    "overlong",
    "cinematography",
    "rewarding",
    "predictable",
    "storytelling",
    "unsatisfying",
    "charismatic",
)


def encode_cases(generator: np.random.Generator) -> list[Case]:
    """Words known whole, in pieces, only in part, or not at all; and too many of them."""
    letters = sorted({letter for word in LONG_WORDS for letter in word} - {"z"})
    vocabulary = [*letters, *("##" + letter for letter in letters)]
    for word in LONG_WORDS:
        a, b = sorted(generator.choice(np.arange(2, len(word) - 1), 2, replace=False).tolist())
        vocabulary += [word[:a], word[:b], "##" + word[a:b], "##" + word[b:]]
    known = generator.choice(LONG_WORDS, 3, replace=False).tolist()
    vocabulary = sorted({*vocabulary, *known})

    def words(n: int) -> list[str]:
        return generator.choice(LONG_WORDS, n, replace=False).tolist()

    return [
        Case(name, {"words": sentence, "vocabulary": vocabulary, "max_tokens": most})
        for name, sentence, most in (
            ("words known whole", known, 64),
            ("words in pieces", words(4), 64),
            ("a letter not in the vocabulary", [*words(1), words(1)[0] + "zz", "ñ", *words(1)], 64),
            ("too many pieces", words(8), 9),
            ("as many pieces as there is room for", known, 5),
            ("no words", [], 8),
        )
    ]


def pieces_of(
    word: str,
    vocabulary: set[str],
    longest_first: bool = True,
    mark: str = "##",
    keeps_part: bool = False,
    by_letter: bool = False,
) -> list[str]:
    """Return one word's pieces, the right way or with a mistake."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = range(len(word), start, -1) if longest_first else range(start + 1, len(word) + 1)
        prefix = mark if start else ""
        end = next((e for e in ends if prefix + word[start:e] in vocabulary), None)
        if end is None and by_letter:
            pieces.append("[UNK]")
            start += 1
        elif end is None:
            return [*pieces, "[UNK]"] if keeps_part else ["[UNK]"]
        else:
            pieces.append(prefix + word[start:end])
            start = end
    return pieces


def whole_or_nothing(word: str, vocabulary: set[str]) -> list[str]:
    """Do not look for pieces."""
    return [word if word in vocabulary else "[UNK]"]


def _encode(
    pieces: Callable[..., list[str]] = pieces_of,
    frame: Callable[[list[str], int], list[str]] = lambda found, n: [
        "[CLS]",
        *found[: n - 2],
        "[SEP]",
    ],
    **mistake: Any,
) -> Callable[[list[str], list[str], int], list[str]]:
    """Return the encoder with other pieces, or another way to cut and to add the two marks."""

    def encode(words: list[str], vocabulary: list[str], max_tokens: int) -> list[str]:
        known = set(vocabulary)
        return frame([p for word in words for p in pieces(word, known, **mistake)], max_tokens)

    return encode


ENCODE = Item(
    name="02.encode",
    title="WordPiece: the longest piece first",
    difficulty=3,
    importance=4,
    minutes=20,
    points=3,
    cases=encode_cases,
    reference=_encode(),
    diagnoses=(
        Mistake(
            "shortest_first",
            "the shortest piece that fits is taken: try the longest first, or every word falls "
            "into letters",
            _encode(longest_first=False),
        ),
        Mistake(
            "no_mark",
            "pieces inside a word are looked up without ##: only the first piece of a word "
            "stands there bare",
            _encode(mark=""),
        ),
        Mistake(
            "part_kept",
            "the pieces found before the unknown letter are kept: where anything is missing, "
            "the whole word is one [UNK]",
            _encode(keeps_part=True),
        ),
        Mistake(
            "unknown_letters",
            "an [UNK] for each unknown letter: where anything is missing, the whole word is one "
            "[UNK]",
            _encode(by_letter=True),
        ),
        Mistake(
            "whole_words",
            "a word that is not an entry as a whole is given up: look for its pieces",
            _encode(whole_or_nothing),
        ),
        Mistake(
            "end_cut_off",
            "[SEP] is cut off with the rest: cut the pieces first, then put the two marks around",
            _encode(frame=lambda found, n: ["[CLS]", *found, "[SEP]"][:n]),
        ),
        Mistake(
            "marks_not_counted",
            "longer than max_tokens: [CLS] and [SEP] count as tokens too",
            _encode(frame=lambda found, n: ["[CLS]", *found[:n], "[SEP]"]),
        ),
        Mistake(
            "one_too_many",
            "longer than max_tokens by one: *two* marks are added to the pieces",
            _encode(frame=lambda found, n: ["[CLS]", *found[: n - 1], "[SEP]"]),
        ),
        Mistake(
            "not_cut",
            "nothing is cut: there is room for max_tokens, the two marks included",
            _encode(frame=lambda found, n: ["[CLS]", *found, "[SEP]"]),
        ),
        Mistake(
            "no_marks",
            "[CLS] and [SEP] are missing",
            _encode(frame=lambda found, n: found[: n - 2]),
        ),
        Mistake(
            "no_marks", "[CLS] and [SEP] are missing", _encode(frame=lambda found, n: found[:n])
        ),
        Symptom(
            "unknown_wrong",
            "right where all letters are known: where anything is missing, the whole word is one "
            "[UNK], and the words after it go on as usual",
            rules.unknown_wrong,
        ),
        Symptom(
            "too_long",
            "longer than max_tokens: cut the pieces so that [CLS] and [SEP] have room",
            rules.too_long,
        ),
        Symptom(
            "unframed",
            "every result begins with [CLS] and ends with [SEP], also one that was cut, and one "
            "without words",
            rules.unframed,
        ),
    ),
)


# --- padding a batch --------------------------------------------------------------------------


def collate_cases(generator: np.random.Generator) -> list[Case]:
    """Classes and ratings; a padding id that is a real token too; a width already round."""
    cases = []
    for name, lengths, pad_id, multiple, ratings in (
        ("three rows", (5, 2, 9), 0, 1, False),
        ("one row", (4,), 0, 1, False),
        ("ratings as labels", (3, 7), 0, 1, True),
        ("in steps of 8", (11, 3, 6, 1), 0, 8, False),
        ("in steps of 4, the longest is round", (8, 5), 0, 4, False),
        ("each row ends with the padding id, in steps of 8", (6, 2, 9), 99, 8, False),
    ):
        rows = [generator.integers(1, 90, n).tolist() for n in lengths]
        if pad_id:
            rows = [[*row[:-1], pad_id] for row in rows]
        labels: list[Any] = generator.integers(0, 2, len(rows)).tolist()
        if ratings:
            labels = [round(float(x), 2) for x in generator.normal(0, 2, len(rows))]
        inputs = {"rows": rows, "labels": labels, "pad_id": pad_id, "multiple": multiple}
        cases.append(Case(name, inputs))
    return cases


Width = Callable[[list[list[int]], int], int]


def rounded_up(rows: list[list[int]], multiple: int) -> int:
    """Return the longest row's length, rounded up."""
    return -(-max(map(len, rows)) // multiple) * multiple


def _collate(
    width: Width = rounded_up,
    pad: int | None = None,
    left: bool = False,
    mask_of: Callable[[list[int], int, int], list[int]] = lambda row, empty, pad_id: (
        [1] * len(row) + [0] * empty
    ),
    in_place: bool = False,
    floats: bool = False,
) -> Callable[[list[list[int]], list[Any], int, int], dict[str, Any]]:
    """Return the collation with some part replaced by a mistake."""

    def collate(
        rows: list[list[int]], labels: list[Any], pad_id: int, multiple: int
    ) -> dict[str, Any]:
        import torch

        T, filler = width(rows, multiple), pad_id if pad is None else pad
        ids, masks = [], []
        for row in rows:
            empty = T - len(row)
            mask = mask_of(row, empty, pad_id)
            if in_place:
                row += [filler] * empty
                ids.append(row)
            else:
                ids.append([filler] * empty + row if left else row + [filler] * empty)
            masks.append(mask[::-1] if left else mask)
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(masks),
            "labels": torch.tensor(labels, dtype=torch.float32 if floats else None),
        }

    return collate


def collate_alone(
    rows: list[list[int]], labels: list[Any], pad_id: int, multiple: int
) -> dict[str, Any]:
    import torch

    found = [
        _collate()([row], [label], pad_id, multiple)
        for row, label in zip(rows, labels, strict=True)
    ]
    return {key: torch.stack([batch[key] for batch in found]) for key in found[0]}


FROM_IDS = (
    "the mask is made by looking for the padding id, and a real token may have that id too "
    "(GPT's tokenizers pad with the end-of-text token): count lengths instead"
)

COLLATE = Item(
    name="02.collate",
    title="One block from ragged rows",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=collate_cases,
    reference=_collate(),
    observe=rules.with_label_type,
    withheld=("course_utils.batching.collate",),
    diagnoses=(
        Mistake(
            "mask_from_ids",
            FROM_IDS,
            _collate(
                mask_of=lambda row, empty, pad_id: [int(i != pad_id) for i in row] + [0] * empty
            ),
        ),
        Mistake(
            "mask_all_ones",
            "the mask says that padding is real: 0 belongs there",
            _collate(mask_of=lambda row, empty, pad_id: [1] * (len(row) + empty)),
        ),
        Mistake(
            "mask_inverted",
            "the mask is the wrong way round: 1 marks a token, 0 marks padding",
            _collate(mask_of=lambda row, empty, pad_id: [0] * len(row) + [1] * empty),
        ),
        Mistake(
            "padded_left",
            "the padding stands in front: this encoder was trained with it behind",
            _collate(left=True),
        ),
        Mistake(
            "pads_with_zero",
            "padded with 0 whatever pad_id is: another tokenizer has another id",
            _collate(pad=0),
        ),
        Mistake(
            "not_rounded",
            "the longest row decides, but `multiple` is ignored: round the width up to it",
            _collate(width=lambda rows, multiple: max(map(len, rows))),
        ),
        Mistake(
            "one_step_too_many",
            "a width that is a multiple already gets one step more: `n // m + 1` is no rounding "
            "up, `-(-n // m)` is",
            _collate(width=lambda rows, multiple: (max(map(len, rows)) // multiple + 1) * multiple),
        ),
        Mistake(
            "changed_input",
            "right, but the rows themselves were padded (row += ... changes the caller's list): "
            "in the next epoch they are longer. Write row + [...]",
            _collate(in_place=True),
        ),
        Mistake(
            "label_type",
            "right but for the kind of the labels: classes stay whole numbers (int64), ratings "
            "are float32. torch.tensor(labels) finds out by itself",
            _collate(floats=True),
        ),
    ),
)


# --- batches of similar length ----------------------------------------------------------------


def length_cases(generator: np.random.Generator) -> list[Case]:
    """As many lengths as film reviews have; sizes that leave a smaller last batch."""
    cases = []
    for n, batch_size in ((500, 16), (333, 8)):
        lengths = np.clip(np.round(generator.gamma(4.0, 6.0, n)), 4, 60).astype(np.int64)
        name = f"{n} rows in batches of {batch_size}"
        cases += with_seeds(name, {"lengths": lengths, "batch_size": batch_size})
    return cases


Batches = list[list[int]]


def cut(rows: Any, size: int) -> Batches:
    """Cut rows into consecutive pieces."""
    return [[int(row) for row in rows[i : i + size]] for i in range(0, len(rows), size)]


def length_batches(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    """Shuffle, sort by length (ties stay shuffled), cut, and shuffle the batches."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    batches = cut(order[np.argsort(lengths[order], kind="stable")], batch_size)
    return [batches[i] for i in generator.permutation(len(batches))]


def batches_random(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    return cut(np.random.default_rng(seed).permutation(len(lengths)).tolist(), batch_size)


def batches_sorted(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    order = np.random.default_rng(seed).permutation(len(lengths))
    return cut(order[np.argsort(lengths[order], kind="stable")], batch_size)


def batches_same_company(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    batches = cut(np.argsort(lengths, kind="stable").tolist(), batch_size)
    return [batches[i] for i in np.random.default_rng(seed).permutation(len(batches))]


def batches_same_seed(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    return length_batches(lengths, batch_size, 0)


def batches_incomplete(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    return [
        batch for batch in length_batches(lengths, batch_size, seed) if len(batch) == batch_size
    ]


def batches_unseeded(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    batches = cut(np.argsort(lengths + np.random.random(len(lengths))).tolist(), batch_size)
    np.random.shuffle(batches)
    return batches


def batches_all_shuffled(lengths: np.ndarray, batch_size: int, seed: int) -> Batches:
    order = np.argsort(lengths, kind="stable")
    return cut(np.random.default_rng(seed).permutation(order).tolist(), batch_size)


BATCHES = Item(
    name="02.length_batches",
    title="Batches of similar length",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=length_cases,
    reference=length_batches,
    call=calls.batches_of_rows,
    agree=rules.good_batches,
    together=rules.repeats_and_mixes,
    apart=True,
    withheld=("course_utils.batching.BucketSampler",),
    diagnoses=(
        Symptom("not_repeated", NOT_REPEATED, rules.not_repeated, batches_unseeded),
        Symptom("seed_ignored", SEED_IGNORED, rules.seed_ignored, batches_same_seed),
        Symptom(
            "rows_lost",
            "not every row comes exactly once: keep the last batch too, though it is smaller",
            rules.some_lose,
            batches_incomplete,
        ),
        Symptom(
            "wrong_size",
            "every batch has batch_size rows, except one that holds what is left over",
            rules.some_wrong_size,
        ),
        Symptom(
            "padded",
            "too much padding: the rows of a batch must have nearly the same length. Sort first, "
            "cut, and shuffle the *batches*",
            rules.some_padded,
            batches_random,
        ),
        Symptom(
            "padded",
            "too much padding: the rows of a batch must have nearly the same length. Sort first, "
            "cut, and shuffle the *batches*",
            rules.some_padded,
            batches_all_shuffled,
        ),
        Symptom(
            "in_order",
            "an epoch begins with all the short rows (or the long ones): shuffle the batches "
            "once they are cut",
            rules.some_in_order,
            batches_sorted,
        ),
        Symptom(
            "same_company",
            "the same rows share a batch in every epoch: shuffle the rows before sorting, and "
            "rows of equal length mix (a stable sort keeps ties in the order in which they come)",
            rules.same_company,
            batches_same_company,
        ),
    ),
)


# --- bug hunt: three leaks --------------------------------------------------------------------


def prepare_cases(generator: np.random.Generator) -> list[Case]:
    """Every leak matters in every case: rare rows, words and copies lie on both sides."""
    cases = []
    for n in (4, 6, 9):
        documents, texts, labels = [], [], []
        for number in range(n):
            for _ in range(int(generator.integers(1, 4))):
                documents.append(f"d{number}")
                texts.append(f"{sentence(generator, 3)} {'xyz'[number % 3]}{number}")
                labels.append(int(generator.random() < 0.3))
        held_out = ["d0", f"d{n - 1}"]
        labels[documents.index("d0")] = labels[documents.index("d1")] = 1
        # the same sentence in a shop window: another case, other blanks
        copied = texts[documents.index("d0")]
        for document, copy in (("d1", copied.upper()), ("d2", copied.replace(" ", "  ", 1))):
            documents.append(document)
            texts.append(copy)
            labels.append(0)
        held = texts[documents.index(f"d{n - 1}")]
        documents.append("d1")
        texts.append(held)  # and one copy to the letter, which the broken code does find
        labels.append(1)
        inputs = {"texts": texts, "documents": documents, "labels": labels, "held_out": held_out}
        cases.append(Case(f"{n} documents", inputs))
    return cases


def plain_words(text: str) -> str:
    """Return a text without its case and its extra blanks."""
    return " ".join(text.lower().split())


def _prepare(
    resampled: bool = False,
    all_words: bool = False,
    raw_copies: bool = False,
    copies_return: bool = False,
    reads_last: bool = False,
    copies_kept: bool = False,
    times: int = 3,
) -> Callable[[list[str], list[str], list[int], list[str]], dict[str, Any]]:
    """Return the preparation with some of its three leaks."""

    def prepare(
        texts: list[str], documents: list[str], labels: list[int], held_out: list[str]
    ) -> dict[str, Any]:
        form: Callable[[str], str] = str if raw_copies else plain_words
        rows = list(range(len(texts)))
        validation = [row for row in rows if documents[row] in held_out]
        known = {form(texts[row]) for row in validation}
        others = [row for row in rows if documents[row] not in held_out]
        train = [row for row in others if copies_kept or form(texts[row]) not in known]
        read = rows if all_words else train
        vocabulary = sorted({word for row in read for word in plain_words(texts[row]).split()})
        repeated = others if copies_return else train
        train += (times - 1) * [row for row in repeated if labels[row] == 1]
        if reads_last:
            vocabulary = sorted({word for row in train for word in plain_words(texts[row]).split()})
        if resampled:
            validation += 2 * [row for row in validation if labels[row] == 1]
        return {"train": train, "validation": validation, "vocabulary": vocabulary}

    return prepare


REMAINING = {
    "resampled": "validation holds rows three times: repeat rare rows in the training part only, "
    "after the split. Validation must look like the world outside",
    "all_words": "the vocabulary has read the validation texts: it is fitted, like a model, and "
    "on training rows alone",
    "raw_copies": "copies in another case or with other blanks stay in training: clean first, "
    "then compare",
}

COPIES_RETURN = (
    "the copies are dropped, and the rare ones among them come back by being repeated: repeat "
    "rows of the training part as it is by then"
)

PREPARE = Item(
    name="02.prepare",
    title="Bug hunt: three leaks that make no noise",
    difficulty=4,
    importance=5,
    minutes=20,
    points=3,
    cases=prepare_cases,
    reference=_prepare(),
    call=calls.prepared,
    diagnoses=(
        *flagged(_prepare, REMAINING),
        Mistake("copies_return", COPIES_RETURN, _prepare(copies_return=True)),
        Mistake("copies_return", COPIES_RETURN, _prepare(copies_return=True, reads_last=True)),
        Mistake(
            "copies_kept",
            "copies of validation sentences are in the training part: drop them",
            _prepare(copies_kept=True),
        ),
        Mistake("twice", "rare rows are there twice: three times is asked", _prepare(times=2)),
        Mistake(
            "four_times",
            "rare rows are there four times: the row itself and two more make three",
            _prepare(times=4),
        ),
        Mistake("once", "rare rows are there once: three times is asked", _prepare(times=1)),
    ),
)

ITEMS = (CLEAN, HOLD_OUT, ENCODE, COLLATE, BATCHES, PREPARE)
