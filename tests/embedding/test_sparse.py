"""Texts -> sparse vectors by their keywords: Qdrant's own BM25, for many languages, offline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant.embedding.sparse import LANGUAGES, STEMMED, KeywordModel
from dagster_qdrant.errors import EmbeddingError

FORMS = {
    "arabic": ("الكتاب", "كتاب"),
    "danish": ("huset", "huse"),
    "dutch": ("boeken", "boek"),
    "english": ("hunting", "hunted"),
    "finnish": ("talossa", "talosta"),
    "french": ("chanteuses", "chanteuse"),
    "german": ("Häusern", "Hauses"),
    "greek": ("δρόμοι", "δρόμος"),
    "hungarian": ("házakat", "házak"),
    "italian": ("libri", "libro"),
    "norwegian": ("bilene", "bilen"),
    "portuguese": ("livros", "livro"),
    "romanian": ("casele", "casa"),
    "russian": ("книги", "книга"),
    "spanish": ("libros", "libro"),
    "swedish": ("bilarna", "bilar"),
    "tamil": ("வீடுகள்", "வீடு"),
    "turkish": ("kitaplar", "kitap"),
}


@pytest.mark.parametrize("language", STEMMED)
def test_forms_of_a_word_are_one_keyword(language):
    one, other = FORMS[language]
    model = KeywordModel(language)
    [stored] = model.embed([one])
    assert stored.indices
    assert model.query(other).indices == stored.indices


@pytest.mark.parametrize("language", ["chinese", "japanese"])
def test_words_without_spaces_between_them_are_found(language):
    text = {"chinese": "侦探在雨中追捕机器人", "japanese": "私は雨の中でロボットを追う"}[language]
    word = {"chinese": "机器人", "japanese": "ロボット"}[language]
    [stored] = KeywordModel(language).embed([text])
    assert set(KeywordModel(language).query(word).indices) & set(stored.indices)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_embeds(language):
    assert KeywordModel(language).query("Blade").indices


def test_stopwords_do_not_count():
    model = KeywordModel("english")
    assert model.query("the and of in").indices == []
    assert model.mean_length(["the rain in the city", "", "androids"]) == 1.5


def test_tokens_are_those_of_fastembed():
    from fastembed import SparseTextEmbedding

    theirs = SparseTextEmbedding("Qdrant/bm25", specific_model_path=".", stopwords=set())
    text = "Androids hunted through rainy streets of Los Angeles, e-mails unread"
    [expected] = theirs.embed([text.replace(" of ", " ").replace("through ", "")])
    [stored] = KeywordModel("english").embed([text.replace("through ", "")])
    assert set(stored.indices) == {int(index) for index in expected.indices}


def test_a_long_text_counts_less_the_shorter_texts_are():
    text = "rain " * 3 + " ".join(f"word{n}" for n in range(50))
    [among_long], [among_short] = (
        KeywordModel("english", avg_len=length).embed([text]) for length in (200, 5)
    )
    assert among_long.indices == among_short.indices
    assert max(among_long.values) > max(among_short.values)


def test_an_unknown_language_is_refused_with_its_like():
    with pytest.raises(EmbeddingError, match="Did you mean 'german'"):
        KeywordModel("germn")


def test_a_mean_length_of_nothing_is_refused():
    with pytest.raises(EmbeddingError, match="`avg_len` is 0"):
        KeywordModel("english", avg_len=0)


@given(st.text(max_size=300))
def test_any_text_has_a_finite_vector_of_distinct_tokens(text):
    [stored] = KeywordModel("english", avg_len=10).embed([text])
    assert len(set(stored.indices)) == len(stored.indices) == len(stored.values)
    assert all(0 < value < 2.2 for value in stored.values)
    assert set(KeywordModel("english").query(text).indices) == set(stored.indices)
