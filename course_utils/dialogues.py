"""Questions with answers by topic, as people published them: for lesson 16's customer service.

The English part of chatterbot-corpus 1.3.3 (G. Cox and others, BSD): 21 topics, each a YAML file
of exchanges. They are returned as published, copies and all, since the copies are what the lesson
shows first. `REWORDED` is ours: the same questions in words that the corpus does not have, written
before any search was tried on them, and not changed since.

Left out on purpose: the other 27 languages, and what follows an exchange's first answer.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from course_utils.datasets import Sentence, mend_spaces
from course_utils.sources import DIALOGUES, fetch
from course_utils.splits import deal, leakage_groups


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, or a remark, and the first answer to it.

    Attributes
    ----------
    topic : str
        The name of its file, such as ``"tech_support"``.
    question, answer : str
        Runs of white space are one blank.
    """

    topic: str
    question: str
    answer: str


def load_exchanges(cache: Path | None = None) -> tuple[Exchange, ...]:
    """Return all exchanges, topic by topic, in file order, repeated ones included.

    One row of the corpus is a single text, from a mark that is missing in its file, and is left
    out: nobody can say what in it is question and what is answer.

    Raises
    ------
    DataError
        If the corpus cannot be fetched or verified.
    """
    found = []
    with zipfile.ZipFile(fetch(DIALOGUES, cache)) as wheel:
        for name in sorted(wheel.namelist()):
            path = PurePosixPath(name)
            if path.parent.name != "english" or path.suffix != ".yml":
                continue
            content = yaml.safe_load(wheel.read(name).decode("utf-8"))  # builds no objects
            for row in content["conversations"]:
                if isinstance(row, list) and len(row) >= 2:
                    question, answer = (mend_spaces(str(line)) for line in row[:2])
                    found.append(Exchange(path.stem, question, answer))
    return tuple(found)


def distinct(exchanges: Sequence[Exchange]) -> tuple[Exchange, ...]:
    """Return each exchange once, the first of its copies.

    Examples
    --------
    >>> twice = Exchange("food", "Hungry?", "Always.")
    >>> len(distinct([twice, Exchange("food", "Hungry?", "No."), twice]))
    2
    """
    return tuple(dict.fromkeys(exchanges))


def split_exchanges(
    exchanges: Sequence[Exchange], shares: Sequence[float], seed: int
) -> list[list[int]]:
    """Deal exchanges out to parts that give nothing of each other away.

    Two that have the question in common, but for capitals and marks, or the answer, stay on one
    side, and so does what hangs together by several such steps (`splits.leakage_groups`). Each part
    gets its share of every topic as nearly as whole groups allow.

    Parameters
    ----------
    exchanges : sequence of Exchange
    shares : sequence of float
        One for each part; above 0, and together 1.
    seed : int

    Returns
    -------
    list of list of int
        The rows of each part.

    Raises
    ------
    ValueError
        If the shares are impossible.

    Examples
    --------
    >>> rows = [Exchange("a", "Why?", "So."), Exchange("a", "why", "No."),
    ...         Exchange("a", "How?", "No."), Exchange("a", "When?", "Now.")]
    >>> sorted(sorted(part) for part in split_exchanges(rows, (0.75, 0.25), seed=0))
    [[0, 1, 2], [3]]
    """
    wanted = np.asarray(shares, dtype=float)
    if wanted.ndim != 1 or len(wanted) < 2 or wanted.min() <= 0 or abs(wanted.sum() - 1) > 1e-9:
        raise ValueError(f"need two shares or more, above 0 and together 1, got {shares}")
    rows = [
        Sentence(str(i), mend_spaces(each.answer.lower()), each.question, 0.0)
        for i, each in enumerate(exchanges)
    ]
    topics = sorted({each.topic for each in exchanges})
    one_hot = np.eye(len(topics))[[topics.index(each.topic) for each in exchanges]]
    return deal(leakage_groups(rows), one_hot, wanted, seed)


# A question of the corpus, and the same in other words.
REWORDED: tuple[tuple[str, str], ...] = (
    ("My system is overheating.", "the machine gets terribly hot"),
    ("My system is overheating.", "Why is the fan so loud and the case burning my fingers?"),
    ("My system is overheating.", "PC temperature far too high"),
    ("My computer won't turn on.", "I press the button and nothing happens"),
    ("My computer won't turn on.", "the PC is completely dead this morning"),
    ("My computer won't turn on.", "Desktop refuses to start up"),
    ("My mouse is not responding.", "the cursor does not move any more"),
    ("My mouse is not responding.", "pointer frozen, clicking does nothing"),
    ("My mouse is not responding.", "I can move it around the desk but the arrow stays put"),
    ("My laptop screen is black.", "the notebook's display stays dark"),
    ("My laptop screen is black.", "Lid open, lights on, but I see no picture"),
    ("My laptop screen is black.", "there is nothing to see on the panel of my portable"),
    ("I can't hear any sound.", "the speakers are silent"),
    ("I can't hear any sound.", "No audio when I play a video"),
    ("I can't hear any sound.", "music plays but my headphones are mute"),
    ("My internet is not working.", "I am offline all the time"),
    ("My internet is not working.", "wifi connected but no page loads"),
    ("My internet is not working.", "the network connection keeps dropping"),
    ("My webcam isn't detected.", "in the meeting nobody can see me, no camera found"),
    ("My webcam isn't detected.", "video calls say there is no camera attached"),
    ("My webcam isn't detected.", "The device for filming does not show up in the settings"),
    ("I forgot my password.", "I can't remember how to log in"),
    ("I forgot my password.", "locked out of the account, need new credentials"),
    ("I forgot my password.", "what was my secret word again?"),
    ("My printer is not printing.", "nothing comes out when I send a document to paper"),
    ("My printer is not printing.", "the pages stay in the queue for ever"),
    ("My printer is not printing.", "I cannot get a hard copy of this letter"),
    ("My screen is flickering.", "the monitor flashes all the time"),
    ("My screen is flickering.", "picture jumps and blinks, my eyes hurt"),
    ("My screen is flickering.", "display goes on and off every second"),
    ("can you write bubble sort?", "I need code that orders a list by swapping neighbours"),
    ("can you build a REST API?", "Show me a small web service that answers with JSON"),
    ("write a SQL query with join", "how do I combine two tables of a database?"),
    ("write a SQL query with GROUP BY", "count the orders of every customer in a database"),
    ("do a recursive factorial", "n! by a function that calls itself"),
    ("can you write a Dockerfile?", "how do I put my app into a container?"),
    ("can you write a cron job?", "run a script every night by itself"),
    ("can you write a linked list in Python?", "nodes that point to the next one, as a class"),
    ("can you write a stack in Python?", "last in, first out structure with push and pop"),
    ("can you write a queue in Python?", "first in, first out structure"),
    ("can you write an enum in TypeScript?", "a fixed set of named constants in TS"),
    ("can you write a palindrome checker in Python?", "is a word the same read backwards?"),
    ("can you write a prime number checker in Python?", "has n no divisor but one and itself?"),
    ("Who was the 37th President of the United States?", "America's head of state number 37"),
    ("What was the name of the first artificial Earth satellite?", "earliest object in orbit"),
    ("What is the name of the nearest major galaxy to the Milky Way?", "our galactic neighbour"),
    ("Which author wrote the 'Winnie-the-Pooh' books?", "the writer who made up Pooh Bear"),
    ("What is the loudest animal on Earth?", "creature that makes the most noise"),
    ("How many ribs are in a human body?", "number of bones around our chest"),
    ("What is the smallest country in the world?", "tiniest nation of all"),
    ("Which planet is the hottest in the solar system?", "where around the sun is it warmest?"),
    ("What is the common name for dried plums?", "what do we call plums without their water?"),
    ("How many hearts does an octopus have?", "blood pumps of an eight-armed sea animal"),
    ("Which mammal has no vocal cords?", "furry animal that cannot make a voice"),
    ("Which chess piece can only move diagonally?", "the figure that goes slantwise on the board"),
    ("When did the Cold War end?", "year in which the conflict of East and West was over"),
    ("What is a community of ants called?", "word for many ants living together"),
    ("Which bone are babies born without?", "part of the skeleton that newborns lack"),
    ("What is the largest planet in our solar system?", "biggest body that circles the sun"),
    ("Canberra is the capital city of which country?", "nation governed from Canberra"),
)

# Nothing in the corpus answers these. Ours as well.
UNANSWERABLE = (
    "When will the parcel I ordered arrive?",
    "I want my money back for the headset",
    "Your invoice charges me twice",
    "Can I change my delivery address?",
    "Is the shop open on Sundays?",
    "the left earbud fell into the soup",
    "Do you repair bicycles?",
    "How do I cancel my subscription?",
    "My coffee machine leaks",
    "Which warranty do I have on the camera?",
    "Can I pay in three instalments?",
    "the keyboard lacks the letter Q",
)
