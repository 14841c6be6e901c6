"""Class names become CLIP's tokens, offline; small teachers know a few of them."""

import pytest
import torch
from skelfew_extract.text import END, START, CompactVocabulary, bpe_ids, prompts, tokenize

from skelfew.errors import SkelfewError


def test_tokens_are_clips() -> None:
    assert tokenize("drink water").tolist() == [[49406, 3979, 1573, 49407]]
    assert tokenize("Drink  WATER ").tolist() == tokenize("drink water").tolist()


def test_prompts() -> None:
    assert prompts(["clap", "sit {} down"]) == ["clap", "sit {} down"]
    assert prompts(["clap"], "a video of {}.") == ["a video of clap."]
    with pytest.raises(SkelfewError, match="exactly one"):
        prompts(["clap"], "a video")
    with pytest.raises(SkelfewError, match="exactly one"):
        prompts(["clap"], "{} {}")
    with pytest.raises(SkelfewError, match="blank"):
        prompts(["clap", " "])


def test_texts_that_say_nothing_or_too_much() -> None:
    with pytest.raises(SkelfewError, match="no tokens"):
        tokenize("  ")
    with pytest.raises(SkelfewError, match="has 76 tokens, but the text tower reads 75"):
        tokenize("a " * 76)
    assert tokenize("a " * 75).shape == (1, 77)


def test_known_words_have_rows_of_their_own() -> None:
    vocabulary = CompactVocabulary.of([*bpe_ids("drink water"), *bpe_ids("clap"), START, END])
    assert vocabulary.size == len(set(bpe_ids("drink water clap"))) + 4
    rows = vocabulary.rows(tokenize("drink water"))[0].tolist()
    assert rows[0] == 2
    assert rows[-1] == vocabulary.size - 1 == max(rows)
    assert len(set(rows)) == 4
    unknown = vocabulary.rows(tokenize("drink zebra"))[0].tolist()
    assert unknown == [2, rows[1], 1, rows[3]]


def test_hashed_words_keep_the_end_highest() -> None:
    vocabulary = CompactVocabulary(1024)
    rows = vocabulary.rows(torch.arange(49408))
    assert rows.min() == 2
    assert rows[END] == 1023
    assert rows[START] == 2
    words = rows[:START]
    assert (words.min(), words.max()) == (3, 1022)
    assert torch.bincount(words).max() < 2 * 49406 / 1020, "words crowd on few rows"
    # A cache made with --untrained can only be continued while these stay as they are.
    assert vocabulary.rows(tokenize("drink water")).tolist() == [[2, 163, 173, 1023]]


def test_impossible_vocabularies() -> None:
    with pytest.raises(ValueError, match="5 rows or more"):
        CompactVocabulary(4)
    with pytest.raises(SkelfewError, match="must ascend"):
        CompactVocabulary(6, (5, 3))
    with pytest.raises(SkelfewError, match="must ascend"):
        CompactVocabulary(5, (START,))
    with pytest.raises(SkelfewError, match="2 tokens need a table of 6 rows, but it has 9"):
        CompactVocabulary(9, (3, 5))
