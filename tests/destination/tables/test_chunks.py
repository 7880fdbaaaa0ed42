"""A long text cut into chunks: each fits the model, and side by side they are the text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant import Chunking
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.text_measure import TextMeasure, text_measure

TEXT = "Blade Runner is a film. It has androids, and rain! " * 20
BY_BYTES = TextMeasure(None, None)

# Texts with the places where something is cut, and characters of several tokens or bytes.
texts = st.lists(
    st.sampled_from(["a", "word ", ". ", "\n", "\n\n", "日本", "e\u0301", "👩‍👩‍👧", "x" * 20])
    | st.text(max_size=5)
).map("".join)


@pytest.fixture(scope="module")
def measure(model) -> TextMeasure:
    return text_measure(EmbeddingOptions(**model))


def cut(text, measure, **how):
    return list(Chunking(**how).of_text(text, measure))


@given(text=texts, tokens=st.integers(1, 9), bytes_=st.booleans())
def test_chunks_fit_and_side_by_side_are_the_text(measure, text, tokens, bytes_):
    measure = BY_BYTES if bytes_ else measure
    chunks = cut(text, measure, tokens=tokens)
    assert "".join(chunk.text for chunk in chunks) == text
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    # One character may have more tokens than that.
    assert all(measure(chunk.text) <= tokens or len(chunk.text) == 1 for chunk in chunks)


@given(text=texts, overlap=st.integers(1, 7))
def test_nothing_is_lost_between_chunks_that_overlap(measure, text, overlap):
    chunks = cut(text, measure, tokens=8, overlap=overlap)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(later.start <= former.end for former, later in pairwise(chunks))
    assert all(former.start < later.start for former, later in pairwise(chunks))
    assert (chunks[-1].end if chunks else 0) == len(text)


def test_markdown_is_cut_between_sections_and_whole(measure):
    text = "# One\n\nA sentence about rain.\n\n# Two\n\nA sentence about androids.\n"
    chunks = cut(text, measure, tokens=12, kind="markdown")
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# One", "# Two"]
    assert "".join(chunk.text for chunk in chunks) == text


def test_a_text_is_cut_between_sentences(measure):
    chunks = cut(TEXT, measure, tokens=16)
    assert all(chunk.text.strip().endswith(("film.", "rain!")) for chunk in chunks)


def test_no_chunk_is_a_title_alone_or_a_small_rest(measure):
    sizes = [measure(chunk.text) for chunk in cut(f"A title\n{TEXT}", measure, tokens=100)]
    assert len(sizes) > 2
    assert min(sizes) > 30


def test_a_text_that_grows_keeps_its_first_chunks(measure):
    before = cut(TEXT * 3, measure, tokens=50)
    after = cut(TEXT * 3 + "And it has an end.", measure, tokens=50)
    assert before[:-2] == after[: len(before) - 2]


def test_an_overlap_begins_with_a_sentence(measure):
    chunks = cut(TEXT, measure, tokens=20, overlap=9)
    assert all(later.start < former.end for former, later in pairwise(chunks))
    assert all(chunk.text.startswith(("Blade", "It")) for chunk in chunks)


def test_chunks_fit_the_model_where_nothing_else_is_asked(measure):
    narrow = TextMeasure(measure.tokenizer, 64)
    assert max(measure(chunk.text) for chunk in cut(TEXT * 4, narrow)) <= 64
    assert 128 < max(measure(chunk.text) for chunk in cut(TEXT * 4, measure)) <= 256


def test_a_prefix_and_what_a_model_puts_round_a_text_need_their_place(model, measure):
    prefixed = text_measure(EmbeddingOptions(**model, passage_prefix="passage: "))
    assert measure.window == 512 - 2
    assert prefixed.window == 512 - 2 - 2


def test_a_function_may_cut():
    [one, two, other] = cut("one\ntwo", None, function=lambda text: [*text.splitlines(), "three"])
    assert (one.text, one.start, one.end) == ("one", 0, 3)
    assert (two.text, two.start, two.end) == ("two", 4, 7)
    assert (other.text, other.start, other.end) == ("three", None, None)


@pytest.mark.parametrize(("given", "words"), [([1], "gave a int"), ("text", "gave one text")])
def test_a_function_has_to_give_texts(given, words):
    with pytest.raises(TypeError, match=words):
        cut("text", None, function=lambda _: given)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"tokens": 0}, "tokens 0"),
        ({"tokens": 9.5}, "tokens 9.5"),
        ({"tokens": 10, "overlap": 10}, "overlap of 10"),
        ("makdown", "Did you mean 'markdown'"),
        ({"kind": "code"}, "needs a `language`"),
        ({"language": "python"}, "takes none for texts"),
        ({"function": len, "tokens": 9}, "nothing beside it"),
        ({"size": 9}, "has `size`; it may have `tokens`"),
    ],
)
def test_what_cannot_work_is_refused(said, words):
    with pytest.raises(ValueError, match=words):
        Chunking.of(said)
    with pytest.raises(TypeError, match="must be True"):
        Chunking.of([9])


def test_more_tokens_than_the_model_takes_are_refused(measure):
    with pytest.raises(ValueError, match=r"chunks of 600 tokens, and the model takes 510"):
        cut("text", measure, tokens=600)


def test_a_grammar_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="pip install tree-sitter-klingon"):
        cut("a = 1\n" * 90, BY_BYTES, tokens=9, kind="code", language="klingon")
