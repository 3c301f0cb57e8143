"""What does not reach the model is counted, and much of it is said; our own texts are silent."""

from __future__ import annotations

import inspect
import warnings

import pytest
from transformers import BatchEncoding

from course_utils.batching import TokenizedDataset
from course_utils.datasets import CORPORA, load_corpus
from course_utils.models import load_tokenizer
from course_utils.reading import TextWarning, warn_of_losses, within
from tests import tiny

# Three reviews each, in scripts that the vocabulary has as [UNK] or as single letters only.
FOREIGN = {
    "Chinese": ["这家酒店的服务非常好", "房间太小而且很吵", "下次还会再来"],
    "Japanese": ["この映画はとても良かったです", "退屈な映画でした", "また見たい"],
    "Korean": ["정말 좋은 영화였습니다", "너무 지루했어요", "다시 보고 싶다"],
    "Russian": ["очень хороший фильм", "скучное и длинное кино", "советую посмотреть"],
    "Greek": ["πολύ καλή ταινία", "βαρετή και μεγάλη", "θα την ξαναδώ"],
    "Arabic": ["فيلم جيد جدا", "ممل وطويل", "أنصح بمشاهدته"],
    "Hebrew": ["סרט טוב מאוד", "משעמם וארוך", "כדאי לראות שוב"],
    "Hindi": ["बहुत अच्छी फिल्म है", "बहुत लंबी और उबाऊ", "फिर से देखूंगा"],
    "Thai": ["ภาพยนตร์ดีมาก", "น่าเบื่อมาก", "อยากดูอีก"],
    "emoji": ["😀😂", "👍 👍", "😭 😡"],
}


@pytest.fixture(scope="module")
def wordpieces():
    return load_tokenizer()


@pytest.fixture
def strictly():
    """Every `TextWarning` is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TextWarning)
        yield


@pytest.mark.parametrize("language", FOREIGN)
def test_another_script_is_noticed(wordpieces, language):
    with pytest.warns(TextWarning, match=r"% of the words are unknown .* COURSE_ENCODER"):
        data = TokenizedDataset(FOREIGN[language], None, wordpieces)
    assert data.unknown > 0.4


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("max_tokens", [128, 64])  # what the lessons use
def test_the_course_s_own_texts_are_silent(wordpieces, strictly, corpus, max_tokens):
    texts = [sentence.text for sentence in load_corpus(corpus)]
    data = TokenizedDataset(texts, None, wordpieces, max_tokens)
    assert data.unknown < 0.001
    assert data.truncated < 0.02 * len(texts)


def test_code_and_rare_names_are_silent(wordpieces, strictly):
    code = inspect.getsource(TokenizedDataset).splitlines()
    assert TokenizedDataset(code, None, wordpieces).unknown < 0.01
    assert TokenizedDataset(["Zbigniew Brzezinski"] * 3, None, wordpieces).unknown == 0


def test_the_share_by_hand(wordpieces):
    """Ten words: one of an unknown script, one spelt in letters, a pair of letters, a full stop."""
    text = "we saw 酒 and фильм with her at pm ."
    with pytest.warns(TextWarning, match="20% of the words"):
        assert TokenizedDataset([text], None, wordpieces).unknown == pytest.approx(2 / 10)


def test_the_threshold_lies_at_one_word_in_twenty(wordpieces, strictly):
    nineteen = "a " * 19
    assert TokenizedDataset([nineteen + "酒"], None, wordpieces).unknown == pytest.approx(0.05)
    with pytest.raises(TextWarning, match="5% of the words"):
        TokenizedDataset([nineteen.removesuffix("a ") + "酒"], None, wordpieces)


def test_a_large_dataset_is_judged_by_texts_from_all_of_it(wordpieces):
    texts = ["fine"] * 2600 + ["酒"] * 2600
    with pytest.warns(TextWarning, match="50% of the words"):
        assert TokenizedDataset(texts, None, wordpieces).unknown == pytest.approx(0.5, abs=0.01)


def test_a_book_cut_to_a_page_is_noticed(wordpieces):
    with pytest.warns(TextWarning, match="33% of the texts have more than 128 tokens and were cut"):
        data = TokenizedDataset(["word " * 100_000, "fine", "dull"], None, wordpieces)
    assert (data.truncated, data.lengths().max()) == (1, 128)


def test_one_warning_of_each_kind_that_points_at_the_line_that_made_the_dataset(wordpieces):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        TokenizedDataset(["酒" * 200] * 50, None, wordpieces)
    assert [warning.category for warning in found] == [TextWarning, TextWarning]
    assert {warning.filename for warning in found} == {__file__}


@pytest.mark.parametrize(("truncated", "unknown", "count"), [(0.05, 0.05, 0), (0.06, 0.06, 2)])
def test_a_little_loss_is_not_worth_a_word(truncated, unknown, count):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_losses(truncated, unknown, 128)
    assert len(found) == count


def test_a_tokenizer_without_marks_leaves_nothing_of_an_empty_text():
    with pytest.raises(ValueError, match="row 1 has no token"):
        TokenizedDataset(["a film", ""], None, tiny.tokenizer())


class SlowTokenizer:
    """Gives ids, but no encodings, as one written in Python does."""

    model_max_length = 512

    def num_special_tokens_to_add(self) -> int:
        return 2

    def __call__(self, texts: list[str], **options: object) -> BatchEncoding:
        return BatchEncoding({"input_ids": [[101, 102] for _ in texts]})


def test_a_tokenizer_that_does_not_say_what_it_cut_is_refused():
    with pytest.raises(ValueError, match="need a fast tokenizer"):
        TokenizedDataset(["fine"], None, SlowTokenizer())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("max_tokens", "message"),
    [
        (2, r"at least 3, as 2 tokens .* marks; got 2"),  # 0 and 1 would not cut at all
        (0, "at least 3"),
        (-5, "at least 3"),
        (513, "at most 512, as the encoder reads no more; got 513"),
        (64.0, "max_tokens must be a whole number, got 64.0"),
        (None, "max_tokens must be a whole number, got None"),
    ],
)
def test_a_length_that_the_encoder_cannot_have_is_refused(wordpieces, max_tokens, message):
    with pytest.raises(ValueError, match=message):
        within(wordpieces, max_tokens)
    with pytest.raises(ValueError, match=message):
        TokenizedDataset(["fine"], None, wordpieces, max_tokens)
