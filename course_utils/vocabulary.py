"""A WordPiece vocabulary of one's own, for texts that the encoder's cannot read.

The recipe of lessons 02 and 04: learn the pieces by merging what often stands side by side (M.
Schuster and K. Nakajima, "Japanese and Korean Voice Search", 2012). BERT's way of cutting words
puts blanks around every Chinese character, so that of Chinese the pieces are the characters.

Left out on purpose: words of several characters. To find where they end takes a model of its own.
"""

from collections.abc import Sequence

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from course_utils.inputs import whole_number

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
PAD, UNK, CLS, SEP, MASK = range(5)


def train_vocabulary(
    texts: Sequence[str], size: int, *, max_tokens: int = 512
) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose pieces were learned from these texts, the same on each run.

    Parameters
    ----------
    texts : sequence of str
        Of the training part only.
    size : int
        Pieces, the five special ones among them. Every letter of the texts has a piece, also
        where these are more.
    max_tokens : int
        How many tokens the model will have places for.

    Raises
    ------
    ValueError
        If there is no text, or no room for pieces beside the special ones.

    Examples
    --------
    >>> tokenizer = train_vocabulary(["ab ab", "abc"], size=12)
    >>> tokenizer.tokenize("ab abd")
    ['ab', '[UNK]']
    """
    if isinstance(texts, str) or not len(texts):
        raise ValueError("need a sequence of texts, and at least one")
    size = whole_number(size, "size", least=len(SPECIAL) + 1)
    learner = _pieces()
    # Equally frequent pairs are merged in the order of their letters' numbers, and those inside a
    # word come out of a hash table: in another order each time. So they are numbered here.
    words = {word for text in texts for word in _words(learner, text)}
    inside = sorted({letter for word in words for letter in word[1:]})
    first = [*SPECIAL, *(f"##{letter}" for letter in inside)]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    tokenizer = _pieces(learner.get_vocab())  # made afresh: there, ##a was called a special token
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_tokens,
    )


def _pieces(vocabulary: dict[str, int] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    clean = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(clean)]
