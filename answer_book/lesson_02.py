"""Items of lesson 02: cleaning, a split, WordPiece, padding, buckets; and a leaking preparation."""

import html
import re  # noqa: F401 - texts of edits use it
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from answer_book.bugs import remaining
from answer_book.edits import edit
from answer_book.lesson_00 import with_seeds
from course_utils.grading.calls import lesson_02 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating, Symptom
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


def decode(text: str) -> str:
    """Decode entities until nothing changes."""
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def mend(text: str) -> str:
    """Reduce white space."""
    return " ".join(text.split())


def changed(before: list[str], after: list[str]) -> int:
    """Return how many texts are not what they were."""
    return sum(a != b for a, b in zip(before, after, strict=True))


def clean(texts: list[str]) -> tuple[list[str], dict[str, int]]:
    """Decode, then mend, and count what each step changed."""
    decoded = [decode(text) for text in texts]
    tidy = [mend(text) for text in decoded]
    record = {"entities": changed(texts, decoded), "white_space": changed(decoded, tidy)}
    return tidy, record


# Edits of it that are made more than once.
DECODE, MEND = "decode(text) for", "mend(text) for"
NAMES = ('"entities"', '"white_space"')
SPACES = "white space is more than blanks in the middle: tabs, line ends, both ends of the text"

CLEAN = Item(
    name="02.clean",
    title="Cleaning that keeps a record",
    **Rating(difficulty=1, importance=3, minutes=10, points=2),
    cases=clean_cases,
    reference=clean,
    withheld=(
        "course_utils.datasets.clean_text",
        "course_utils.datasets.decode_entities",
        "course_utils.datasets.mend_spaces",
    ),
    diagnoses=(
        Mistake(
            "decoded_once",
            "decoded once: some entities were encoded twice, so go on until nothing changes",
            edit(clean, DECODE, "html.unescape(text) for"),
        ),
        Mistake(
            "not_decoded", "no entity is decoded: html.unescape", edit(clean, DECODE, "text for")
        ),
        Mistake(
            "spaces_first",
            "white space is mended first, and decoding brings in more of it: &nbsp; is a blank",
            edit(clean, DECODE, MEND, MEND, DECODE, *NAMES, *NAMES[::-1]),
        ),
        Mistake(
            "some_spaces",
            SPACES,
            edit(clean, MEND, "text.strip() for"),
            edit(clean, MEND, r're.sub(r"\s+", " ", text) for'),
            edit(clean, MEND, 're.sub(" +", " ", text).strip() for'),
            edit(clean, MEND, "text for"),
        ),
        Mistake(
            "counted_from_raw",
            "the texts are right, the record is not: white_space counts what mending changed in "
            "the *decoded* text, or an entity is counted under both names",
            edit(clean, "changed(decoded, tidy)", "changed(texts, tidy)"),
        ),
        Mistake(
            "marks_counted",
            "the texts are right, the record is not: it counts texts that were changed, not marks",
            edit(
                clean,
                "changed(texts, decoded)",
                r'sum(len(re.findall(r"&#?\w+;", text)) for text in texts)',
            ),
        ),
        Mistake(
            "too_much",
            "too much is cleaned: capitals and punctuation carry meaning, and so does a heart made "
            "of <3",
            edit(clean, MEND, "mend(text).lower() for"),
            edit(clean, MEND, r'mend(re.sub(r"[^\w\s]", "", text)) for'),  # what tutorials do
        ),
        Mistake(
            "no_record",
            "the texts are right; the record is missing beside them",
            edit(clean, "return tidy, record", "return tidy"),
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


def hold_out(documents: list[str], labels: np.ndarray, share: float, seed: int) -> list[int]:
    """Go through the documents in random order, and take each one that there is room for."""
    rows_of = defaultdict(list)
    for row, document in enumerate(documents):
        rows_of[document].append(row)
    groups = list(rows_of.values())
    room = share * np.bincount(labels)  # (C,)
    chosen: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(groups)):
        counts = np.bincount(labels[groups[i]], minlength=len(room))
        if (counts <= room).all():
            room -= counts
            chosen += groups[i]
    return chosen


# Edits of draws here and below.
UNSEEDED = ("np.random.default_rng(seed)", "np.random")
SAME_SEED = ("default_rng(seed)", "default_rng(0)")
FITS = "(counts <= room).all()"

NOT_REPEATED = (
    "the same seed gives another result the second time: make a generator from the seed, "
    "np.random.default_rng(seed), and shuffle with that one"
)
SEED_IGNORED = (
    "every seed gives the same result: the seed must reach a generator, and the generator a shuffle"
)

HOLD_OUT = Item(
    name="02.hold_out",
    title="A stratified split that keeps documents whole",
    **Rating(difficulty=3, importance=5, minutes=20, points=3),
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
            edit(hold_out, "return chosen", "return np.isin(np.arange(len(labels)), chosen)"),
        ),
        Symptom("not_repeated", NOT_REPEATED, rules.not_repeated, edit(hold_out, *UNSEEDED)),
        Symptom("seed_ignored", SEED_IGNORED, rules.seed_ignored, edit(hold_out, *SAME_SEED)),
        Symptom(
            "divided",
            "a leak: some documents have sentences on both sides. Choose documents, not rows",
            rules.some_divide,
            edit(hold_out, "rows_of[document]", "rows_of[row]"),
        ),
        Symptom(
            "the_rest",
            "these are the rows to train on: wanted are the ones held out",
            rules.the_rest,
            edit(hold_out, "return chosen", "return sorted({*range(len(labels))} - {*chosen})"),
        ),
        Symptom(
            "unbalanced",
            "documents stay whole, but the classes do not have their share: what one document "
            "brings has to be counted by class",
            rules.some_unbalanced,
            edit(hold_out, FITS, "len(chosen) < share * len(labels)"),
            edit(hold_out, FITS, "len(chosen + groups[i]) <= share * len(labels)"),
        ),
    ),
)


# --- WordPiece: longest match first -----------------------------------------------------------

LONG = """
unflinching masterpiece intriguing hilarious sentimental overlong cinematography rewarding
predictable storytelling unsatisfying charismatic
"""
LONG_WORDS = LONG.split()


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


def pieces_of(word: str, known: set[str]) -> list[str]:
    """Return one word's pieces: again and again the longest that fits."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if mark + word[start:e] in known), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def encode(words: list[str], vocabulary: list[str], max_tokens: int) -> list[str]:
    """Cut the pieces of all words to what there is room for, and put the two marks around."""
    known = set(vocabulary)
    found = [piece for word in words for piece in pieces_of(word, known)]
    return ["[CLS]", *found[: max_tokens - 2], "[SEP]"]


def other_pieces(old: str, new: str) -> Any:
    """Return the encoder with an edit of how one word is cut."""
    return edit(encode, old, new, within=(pieces_of,))


UNKNOWN = 'return ["[UNK]"]'
MARKS = ('["[CLS]", *', "", ', "[SEP]"]', "")


ENCODE = Item(
    name="02.encode",
    title="WordPiece: the longest piece first",
    **Rating(difficulty=3, importance=4, minutes=20, points=3),
    cases=encode_cases,
    reference=encode,
    diagnoses=(
        Mistake(
            "shortest_first",
            "the shortest piece that fits is taken: try the longest first, or every word falls "
            "into letters",
            other_pieces("range(len(word), start, -1)", "range(start + 1, len(word) + 1)"),
        ),
        Mistake(
            "no_mark",
            "pieces inside a word are looked up without ##: only the first piece of a word "
            "stands there bare",
            other_pieces('"##" if start else ""', '""'),
        ),
        Mistake(
            "part_kept",
            "the pieces found before the unknown letter are kept: where anything is missing, "
            "the whole word is one [UNK]",
            other_pieces(UNKNOWN, 'return [*pieces, "[UNK]"]'),
        ),
        Mistake(
            "unknown_letters",
            "an [UNK] for each unknown letter: where anything is missing, the whole word is one "
            "[UNK]",
            other_pieces(UNKNOWN, 'pieces += ["[UNK]"]; start += 1; continue'),
        ),
        Mistake(
            "whole_words",
            "a word that is not an entry as a whole is given up: look for its pieces",
            edit(encode, "pieces_of(word, known)", '[word if word in known else "[UNK]"]'),
        ),
        Mistake(
            "end_cut_off",
            "[SEP] is cut off with the rest: cut the pieces first, then put the two marks around",
            edit(encode, "[: max_tokens - 2]", "", '"[SEP]"]', '"[SEP]"][:max_tokens]'),
        ),
        Mistake(
            "marks_not_counted",
            "longer than max_tokens: [CLS] and [SEP] count as tokens too",
            edit(encode, "max_tokens - 2", "max_tokens"),
        ),
        Mistake(
            "one_too_many",
            "longer than max_tokens by one: *two* marks are added to the pieces",
            edit(encode, "max_tokens - 2", "max_tokens - 1"),
        ),
        Mistake(
            "not_cut",
            "nothing is cut: there is room for max_tokens, the two marks included",
            edit(encode, "[: max_tokens - 2]", ""),
        ),
        Mistake(
            "no_marks",
            "[CLS] and [SEP] are missing",
            edit(encode, *MARKS),
            edit(encode, *MARKS, "max_tokens - 2", "max_tokens"),
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


def collate(
    rows: list[list[int]], labels: list[Any], pad_id: int, multiple: int
) -> dict[str, torch.Tensor]:
    """Fill up all rows to the longest one's length, rounded up."""
    longest = max(map(len, rows))
    T = -(-longest // multiple) * multiple
    masks = [[1] * len(row) + [0] * (T - len(row)) for row in rows]
    ids = [row + [pad_id] * (T - len(row)) for row in rows]
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(masks),
        "labels": torch.tensor(labels),
    }


IDS, MASK = "row + [pad_id] * (T - len(row))", "[1] * len(row) + [0] * (T - len(row))"


COLLATE = Item(
    name="02.collate",
    title="One block from ragged rows",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=collate_cases,
    reference=collate,
    observe=rules.with_label_type,
    withheld=("course_utils.batching.collate",),
    diagnoses=(
        Mistake(
            "mask_from_ids",
            "the mask is made by looking for the padding id, and a real token may have that id too "
            "(GPT's tokenizers pad with the end-of-text token): count lengths instead",
            edit(collate, "[1] * len(row)", "[int(i != pad_id) for i in row]"),
        ),
        Mistake(
            "mask_all_ones",
            "the mask says that padding is real: 0 belongs there",
            edit(collate, "[0]", "[1]"),
        ),
        Mistake(
            "mask_inverted",
            "the mask is the wrong way round: 1 marks a token, 0 marks padding",
            edit(collate, "[1]", "[0]", "[0]", "[1]"),
        ),
        Mistake(
            "padded_left",
            "the padding stands in front: this encoder was trained with it behind",
            edit(collate, IDS, "[pad_id] * (T - len(row)) + row", MASK, f"({MASK})[::-1]"),
        ),
        Mistake(
            "pads_with_zero",
            "padded with 0 whatever pad_id is: another tokenizer has another id",
            edit(collate, "[pad_id]", "[0]"),
        ),
        Mistake(
            "not_rounded",
            "the longest row decides, but `multiple` is ignored: round the width up to it",
            edit(collate, "-(-longest // multiple) * multiple", "longest"),
        ),
        Mistake(
            "one_step_too_many",
            "a width that is a multiple already gets one step more: `n // m + 1` is no rounding "
            "up, `-(-n // m)` is",
            edit(collate, "-(-longest // multiple)", "(longest // multiple + 1)"),
        ),
        Mistake(
            "changed_input",
            "right, but the rows themselves were padded (row += ... changes the caller's list): "
            "in the next epoch they are longer. Write row + [...]",
            edit(collate, IDS, "row.extend([pad_id] * (T - len(row))) or row"),
        ),
        Mistake(
            "label_type",
            "right but for the kind of the labels: classes stay whole numbers (int64), ratings "
            "are float32. torch.tensor(labels) finds out by itself",
            edit(collate, "torch.tensor(labels)", "torch.tensor(labels).float()"),
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


def length_batches(lengths: np.ndarray, batch_size: int, seed: int) -> list[list[int]]:
    """Shuffle, sort by length (ties stay shuffled), cut, and shuffle the batches."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


SORTED = 'order[np.argsort(lengths[order], kind="stable")]'

BATCHES = Item(
    name="02.length_batches",
    title="Batches of similar length",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
    cases=length_cases,
    reference=length_batches,
    call=calls.batches_of_rows,
    agree=rules.good_batches,
    together=rules.repeats_and_mixes,
    apart=True,
    withheld=("course_utils.batching.BucketSampler",),
    diagnoses=(
        Symptom("not_repeated", NOT_REPEATED, rules.not_repeated, edit(length_batches, *UNSEEDED)),
        Symptom("seed_ignored", SEED_IGNORED, rules.seed_ignored, edit(length_batches, *SAME_SEED)),
        Symptom(
            "rows_lost",
            "not every row comes exactly once: keep the last batch too, though it is smaller",
            rules.some_lose,
            edit(length_batches, "range(0, len(order),", "range(0, len(order) - batch_size + 1,"),
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
            edit(length_batches, SORTED, "order"),
            edit(length_batches, SORTED, "generator.permutation(np.argsort(lengths))"),
        ),
        Symptom(
            "in_order",
            "an epoch begins with all the short rows (or the long ones): shuffle the batches "
            "once they are cut",
            rules.some_in_order,
            edit(length_batches, "generator.permutation(len(batches))", "range(len(batches))"),
        ),
        Symptom(
            "same_company",
            "the same rows share a batch in every epoch: shuffle the rows before sorting, and "
            "rows of equal length mix (a stable sort keeps ties in the order in which they come)",
            rules.same_company,
            edit(length_batches, "generator.permutation(len(lengths))", "np.arange(len(lengths))"),
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


def words_of(texts: list[str], rows: list[int]) -> list[str]:
    """Return the words of some texts."""
    return sorted({word for row in rows for word in plain_words(texts[row]).split()})


def prepare(
    texts: list[str], documents: list[str], labels: list[int], held_out: list[str]
) -> dict[str, Any]:
    """Split, drop copies, read the words of the training part, repeat its rare rows."""
    validation = [row for row in range(len(texts)) if documents[row] in held_out]
    others = [row for row in range(len(texts)) if documents[row] not in held_out]
    known = {plain_words(texts[row]) for row in validation}
    train = [row for row in others if plain_words(texts[row]) not in known]
    vocabulary = words_of(texts, train)
    train += 2 * [row for row in train if labels[row] == 1]
    return {"train": train, "validation": validation, "vocabulary": vocabulary}


RETURN = ("+= 2 * [row for row in train", "+= 2 * [row for row in others")

PREPARE = Item(
    name="02.prepare",
    title="Bug hunt: three leaks that make no noise",
    **Rating(difficulty=4, importance=5, minutes=20, points=3),
    cases=prepare_cases,
    reference=prepare,
    call=calls.prepared,
    diagnoses=(
        *remaining(
            prepare,
            {
                "resampled": (
                    "validation holds rows three times: repeat rare rows in the training part "
                    "only, after the split. Validation must look like the world outside",
                    '"validation": validation',
                    '"validation": validation + 2 * [row for row in validation if labels[row]]',
                ),
                "all_words": (
                    "the vocabulary has read the validation texts: it is fitted, like a model, and "
                    "on training rows alone",
                    *("words_of(texts, train)", "words_of(texts, validation + others)"),
                ),
                "raw_copies": (
                    "copies in another case or with other blanks stay in training: clean first, "
                    "then compare",
                    *("{plain_words(texts[row])", "{texts[row]"),
                    *("if plain_words(texts[row]) not", "if texts[row] not"),
                ),
            },
        ),
        Mistake(
            "copies_return",
            "the copies are dropped, and the rare ones among them come back by being repeated: "
            "repeat rows of the training part as it is by then",
            edit(prepare, *RETURN),
            edit(
                prepare, *RETURN, '"vocabulary": vocabulary', '"vocabulary": words_of(texts, train)'
            ),
        ),
        Mistake(
            "copies_kept",
            "copies of validation sentences are in the training part: drop them",
            edit(prepare, " if plain_words(texts[row]) not in known", ""),
        ),
        Mistake(
            "twice",
            "rare rows are there twice: three times is asked",
            edit(prepare, "+= 2", "+= 1"),
        ),
        Mistake(
            "four_times",
            "rare rows are there four times: the row itself and two more make three",
            edit(prepare, "+= 2", "+= 3"),
        ),
        Mistake(
            "once", "rare rows are there once: three times is asked", edit(prepare, "+= 2", "+= 0")
        ),
    ),
)

ITEMS = (CLEAN, HOLD_OUT, ENCODE, COLLATE, BATCHES, PREPARE)
