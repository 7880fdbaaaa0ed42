"""Texts -> vectors by a service: the same as in this process, checked, and clear words if not."""

import re
import socket
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dagster_qdrant.embedding.embedder import load_embedder, vector_size
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.remote import RemoteEmbedder
from dagster_qdrant.embedding.service_options import ServiceOptions
from dagster_qdrant.errors import EmbeddingError, EmbeddingServiceError, QdrantStoppedError
from example_project.model import MODEL_NAME
from tests.embedding.service import EmbeddingService, answer, cut

TEXTS = [
    "a short text",
    "one that is " + "quite " * 40 + "long",
    "third",
    "é 漢字 🎬",
    "a short text",
]
# Texts of some 125 tokens; the service takes 80.
LONG = [f"story {n}: " + "and then something else happened " * 24 for n in range(3)]


@pytest.fixture(params=["openai", "tei"])
def api(request) -> str:
    return request.param


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits before further tries, which last no time."""
    made: list[float] = []
    monkeypatch.setattr(
        "dagster_qdrant.embedding.remote._wait", lambda seconds, *_: made.append(seconds)
    )
    return made


def remote(service: EmbeddingService, api: str = "openai", model: str = MODEL_NAME, **options: Any):
    """An embedder of the service; options of the service are told apart by their names."""
    of_service = {
        name: options.pop(name)
        for name in ("api_key", "dimensions", "timeout", "max_retries")
        if name in options
    }
    url = options.pop("url", None) or getattr(service, api)
    return RemoteEmbedder(
        EmbeddingOptions(model, service=ServiceOptions(url, **of_service), **options)
    )


# -- vectors ---------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(service, api, embedder):
    vectors = remote(service, api).embed(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, embedder.embed(TEXTS), atol=1e-6)


def test_a_question_is_embedded_too(service, api, embedder):
    np.testing.assert_allclose(
        remote(service, api).embed_query("robots"), embedder.embed_query("robots"), atol=1e-6
    )


def test_no_texts_take_no_request(service, api):
    made = remote(service, api)
    before = len(service.requests)
    assert made.embed([]).shape == (0, 384)
    assert len(service.requests) == before


def test_tokens_are_those_that_the_service_counts(service, api):
    in_work = remote(service, api).start(TEXTS)
    in_work.result()
    assert in_work.tokens == sum(map(service.tokens, TEXTS))


def test_vectors_come_in_base64_where_the_service_knows_it(service):
    remote(service).embed(TEXTS)
    assert {body["encoding_format"] for _, body in service.requests} == {"base64"}


def test_a_service_without_base64_is_asked_for_it_once(service, embedder):
    service.knows_base64 = False
    np.testing.assert_allclose(remote(service).embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)
    asked = ["encoding_format" in body for _, body in service.requests]
    assert asked[0]
    assert not any(asked[1:])


def test_a_service_that_takes_base64_and_gives_numbers_is_understood(service, embedder):
    service.next_answers.append(None)
    service.spoil = lambda vectors: vectors
    made = remote(service)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.embedding.service._encoded", lambda vector, _body: vector)
        np.testing.assert_allclose(made.embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


def test_half_of_a_character_is_no_obstacle(service, api):
    assert remote(service, api).embed(["a torn \ud83d character"]).shape == (1, 384)


# -- batches ---------------------------------------------------------------------------------------


def test_requests_hold_no_more_texts_than_asked_and_go_at_once(service, api, embedder):
    service.seconds = 0.05
    texts = [f"text number {n}" for n in range(20)]
    made = remote(service, api, batch_size=3, parallelism=4)
    np.testing.assert_allclose(made.embed(texts), embedder.embed(texts), atol=1e-6)
    sizes = [len(body.get("input", body.get("inputs"))) for _, body in service.requests]
    assert max(sizes) == 3
    assert service.most_at_once == 4


def test_requests_are_bounded_by_their_characters(service, api, monkeypatch):
    monkeypatch.setattr("dagster_qdrant.embedding.remote._REQUEST_CHARACTERS", 100)
    remote(service, api).embed(["word " * 6 for _ in range(9)] + ["word " * 60])
    sizes = [sum(map(len, body.get("input", body.get("inputs")))) for _, body in service.requests]
    assert max(size for size in sizes if size < 300) <= 100


def test_a_service_says_how_many_texts_it_takes(service, caplog):
    service.most_texts = 5
    texts = [f"text number {n}" for n in range(12)]
    remote(service, "tei", batch_size=50).embed(texts)
    assert max(len(body["inputs"]) for _, body in service.requests) == 5
    assert "`embedding_batch_size` is 50" in caplog.text
    assert "takes 5 texts at most" in caplog.text


@pytest.mark.parametrize("api", ["openai", "tei"])
def test_how_many_texts_a_service_takes_is_learnt(service, api, embedder, caplog):
    service.most_texts, service.has_info = 7, False
    texts = [f"text number {n}" for n in range(24)]
    made = remote(service, api, batch_size=24)
    np.testing.assert_allclose(made.embed(texts), embedder.embed(texts), atol=1e-6)
    assert "does not take 24 texts at once" in caplog.text
    service.requests.clear()
    made.embed(texts)
    assert {len(body.get("input", body.get("inputs"))) for _, body in service.requests} == {6}


def test_many_threads_can_use_it_at_once(service, api, embedder):
    made = remote(service, api)
    lists = [[f"text {n} of {thread}" for n in range(5)] for thread in range(6)]
    with ThreadPoolExecutor(6) as threads:
        for texts, vectors in zip(lists, threads.map(made.embed, lists), strict=True):
            np.testing.assert_allclose(vectors, embedder.embed(texts), atol=1e-6)


def test_texts_can_be_given_up(service, api):
    service.seconds = 0.2
    in_work = remote(service, api, batch_size=1, parallelism=1).start(
        [f"text number {n}" for n in range(30)]
    )
    in_work.cancel()
    with pytest.raises(CancelledError):
        in_work.result()
    assert len(service.texts) <= 2


def test_a_wait_for_a_service_ends_when_texts_are_given_up(service):
    made = remote(service)
    service.next_answers.extend([answer(503, retry_after="30")] * 9)
    in_work = made.start(["a text"])
    while service.next_answers and len(service.next_answers) == 9:
        time.sleep(0.01)
    time.sleep(0.1)
    start = time.monotonic()
    in_work.cancel()
    with pytest.raises(CancelledError):
        in_work.result()
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("waits_for", ["texts", "question", "further try"])
def test_who_is_told_to_stop_waits_for_no_service(service, api, monkeypatch, waits_for):
    made = remote(service, api)
    if waits_for == "further try":
        service.next_answers.extend([answer(503, retry_after="3")] * 9)
    else:
        service.seconds = 5
    work = made.embed_query if waits_for == "question" else lambda text: made.embed([text])
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(work, "a text")
        time.sleep(0.3)
        monkeypatch.setattr("dagster_qdrant.stopping.is_stopping", lambda: True)
        start = time.monotonic()
        with pytest.raises(QdrantStoppedError):
            waiting.result()
    assert time.monotonic() - start < 2
    monkeypatch.undo()
    service.reset()
    assert made.embed(["a text"]).shape == (1, 384)


# -- texts that are too long -----------------------------------------------------------------------


def test_a_text_that_is_refused_as_too_long_is_cut_and_counted(service, api):
    in_work = remote(service, api).start([TEXTS[0], LONG[0], TEXTS[2], LONG[1]])
    vectors = in_work.result()
    assert np.isfinite(vectors).all()
    assert sorted(in_work.cut) == [1, 3]
    for position in (1, 3):
        assert in_work.cut[position] == pytest.approx(service.tokens(LONG[0]) - 80, abs=15)
    # Nearly all that the model would have seen was embedded.
    whole = service.embedder.embed([service.cut_off(LONG[0])])[0]
    assert float(vectors[1] @ whole) > 0.97


def test_texts_that_are_cut_without_a_word_are_counted(service):
    service.refuses = False
    made = remote(service)
    in_work = made.start([*TEXTS, *LONG])
    in_work.result()
    assert sorted(in_work.cut) == [5, 6, 7]
    service.requests.clear()
    again = made.start([*TEXTS, *LONG])
    again.result()
    assert again.cut == in_work.cut
    assert len(service.texts) == len(TEXTS) + len(LONG)  # what is known is not asked again


def test_where_a_service_cuts_is_found_between_two_lengths(service):
    service.refuses = False
    texts = ["word " * words for words in range(2, 160, 2)]
    in_work = remote(service).start(texts)
    in_work.result()
    too_long = [place for place, text in enumerate(texts) if service.tokens(text) > 80]
    assert set(in_work.cut) <= set(too_long)
    assert len(in_work.cut) >= len(too_long) - 3  # a few words too many are not noticed
    assert len(service.texts) - len(texts) <= 2 * 8


def test_half_precision_is_not_taken_for_a_cut(service):
    service.refuses, service.half = False, True
    in_work = remote(service).start(["many different words make a story " * 9])
    in_work.result()
    assert in_work.cut == {}


def test_a_service_that_refuses_is_not_asked_what_it_cuts(service):
    made = remote(service)
    made.start(["word " * 100]).result()
    service.requests.clear()
    made.start(["word " * 70]).result()
    assert len(service.requests) == 1


def test_a_text_that_is_refused_for_another_reason_is_shown(service, api):
    made = remote(service, api)
    refusal = answer(400, {"error": {"message": "this is not a text that I like"}})
    service.next_answers.extend([refusal] * 9)
    with pytest.raises(EmbeddingError, match=r"not a text that I like.*about the text 'third'"):
        made.embed(["third"])


# -- a service that misbehaves ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 424, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(service, api, embedder, waits, status, caplog):
    made = remote(service, api)
    service.next_answers.extend([answer(status), answer(status)])
    np.testing.assert_allclose(made.embed(["one"]), embedder.embed(["one"]), atol=1e-6)
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 1.5
    assert "Trying again in" in caplog.text


def test_a_service_that_asks_for_time_gets_it(service, api, waits):
    made = remote(service, api)
    service.next_answers.extend(
        [answer(429, retry_after="7"), answer(503, retry_after="Fri, 31 Dec 2100 23:59:59 GMT")]
    )
    made.embed(["a text"])
    assert 7.0 in waits
    assert 30.0 in waits


def test_connections_that_are_cut_are_made_anew(service, api, embedder, waits):
    made = remote(service, api)
    service.next_answers.extend([cut, cut])
    np.testing.assert_allclose(made.embed(["one"]), embedder.embed(["one"]), atol=1e-6)
    assert len(waits) == 2


def test_a_service_that_never_recovers_is_named(service, api, waits):
    made = remote(service, api, max_retries=2)
    service.next_answers.extend([answer(503, {"error": "Model is overloaded"})] * 3)
    with pytest.raises(EmbeddingServiceError, match=f"{service.port}.* answered 503: Model is ove"):
        made.embed(["a text"])
    assert len(waits) == 2


def test_a_service_that_is_too_slow_is_named(service, api):
    made = remote(service, api, timeout=1, max_retries=0)
    service.seconds = 3
    with pytest.raises(EmbeddingServiceError, match=r"did not answer within 1 s. Raise `timeout`"):
        made.embed(["a text"])


def test_a_service_that_is_not_there_is_named_with_what_to_do(waits):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(
            EmbeddingServiceError, match=f"could be reached at {url}: .*Start it, or set `embedding"
        ):
            remote(None, url=url)  # type: ignore[arg-type]
    assert len(waits) == 3


def test_a_key_that_is_refused_is_said_to_be_at_once(service, api, waits):
    service.key = "right"
    with pytest.raises(EmbeddingError, match=r"refused a request without a key \(401\).*Set `embe"):
        remote(service, api)
    with pytest.raises(EmbeddingError, match=r"refused the key it was given \(401\): Incorrect"):
        remote(service, api, api_key="wrong")
    assert remote(service, api, api_key="right").embed(["a text"]).shape == (1, 384)
    assert waits == []


def test_a_quota_that_is_used_up_is_not_waited_for(service, waits):
    made = remote(service)
    spent = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    service.next_answers.append(answer(429, spent))
    with pytest.raises(EmbeddingError, match="no quota left for this key"):
        made.embed(["a text"])
    assert waits == []


def test_a_model_that_the_service_does_not_know_is_named(service):
    with pytest.raises(EmbeddingError, match=r"no such model.*`no/such` does not exist.*Set `mod"):
        remote(service, model="no/such")


def test_a_service_with_another_model_is_refused(service):
    with pytest.raises(EmbeddingError, match=f"has the model '{MODEL_NAME}', but `model` is 'BAA"):
        remote(service, "tei", model="BAAI/bge-small-en")


def test_a_service_that_takes_any_name_for_its_model_is_warned_of(service, caplog):
    service.next_answers.append(
        answer(200, {"data": [{"embedding": [0.1] * 384}], "model": "BAAI/bge-m3"})
    )
    remote(service)
    assert f"`model` is '{MODEL_NAME}'" in caplog.text
    assert "answers with 'BAAI/bge-m3'" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda vectors: vectors[1:], "gave 4 vectors for 5 texts"),
        (lambda vectors: [*vectors, vectors[0]], "gave 6 vectors for 5 texts"),
        (lambda vectors: [v[:100] for v in vectors], "gave vectors of 100 dimensions .* gave 384"),
        (lambda vectors: [*vectors[:4], vectors[4][:100]], "different sizes"),
        (
            lambda vectors: [*vectors[:2], [float("nan")] * 384, *vectors[3:]],
            "for the text '[a-z]+'",
        ),
        (
            lambda vectors: [*vectors[:2], [float("inf")] * 384, *vectors[3:]],
            "for the text '[a-z]+'",
        ),
        (lambda vectors: [[] for _ in vectors], "something that is no vector"),
    ],
)
def test_an_answer_that_is_not_right_is_not_used(service, api, spoil, words):
    made = remote(service, api)
    service.spoil = spoil
    with pytest.raises(EmbeddingError, match=words) as caught:
        made.embed(["one", "two", "third", "fourth", "fifth"])
    if "for the text" in words:
        assert repr(service.texts[2]) in str(caught.value)


def test_numbers_that_are_missing_are_noticed(service):
    made = remote(service, "tei")
    service.spoil = lambda vectors: [[None, *vector[1:]] for vector in vectors]
    with pytest.raises(EmbeddingError, match="numbers that are not finite, for the text 'one'"):
        made.embed(["one"])


def test_vectors_that_are_not_told_apart_are_not_used(service):
    made = remote(service)
    twice = {"index": 0, "embedding": [0.1] * 384}
    service.next_answers.append(answer(200, {"data": [twice, twice], "model": MODEL_NAME}))
    with pytest.raises(EmbeddingError, match="2 vectors for 2 texts, or did not say of which"):
        made.embed(["one", "two"])


@pytest.mark.parametrize("said", [{"hello": "world"}, [], "text", {"data": "text"}, {"data": [1]}])
def test_an_answer_of_something_else_is_shown(service, api, said):
    service.has_info = False
    service.next_answers.append(answer(200, said or [[]]))
    with pytest.raises(EmbeddingError, match="not that of|vectors for 1 texts|that is no vector"):
        remote(service, api)


def test_a_service_that_sends_us_elsewhere_is_not_followed(service, api):
    service.next_answers.append(answer(307, location="http://elsewhere.example/v1"))
    with pytest.raises(
        EmbeddingError, match=r"answers with a redirect \(307\).*Set `embedding_url`"
    ):
        remote(service, api)


def test_a_key_that_is_in_an_answer_by_chance_does_no_harm(service, api, embedder):
    service.key = "A"  # as is in nearly every vector in base64
    np.testing.assert_allclose(
        remote(service, api, api_key="A").embed(TEXTS), embedder.embed(TEXTS), atol=1e-6
    )


# -- dimensions ------------------------------------------------------------------------------------


def test_the_size_of_vectors_is_asked_of_the_service(service, api):
    options = EmbeddingOptions(MODEL_NAME, service=ServiceOptions(getattr(service, api)))
    assert vector_size(options) == 384
    assert vector_size(options) == 384
    assert len(service.requests) == 1
    assert "dimensions" not in service.requests[0][1]


def test_dimensions_that_are_set_are_known_without_a_request(service, api):
    options = EmbeddingOptions(
        MODEL_NAME, service=ServiceOptions(getattr(service, api), dimensions=128)
    )
    assert vector_size(options) == 128
    assert service.requests == []


def test_vectors_are_shortened_by_a_service_that_can(service, api, embedder):
    service.matryoshka = True
    vectors = remote(service, api, dimensions=128).embed(TEXTS)
    np.testing.assert_allclose(vectors, embedder.embed(TEXTS)[:, :128], atol=1e-6)


def test_dimensions_that_the_model_has_anyway_may_be_set(service, api):
    assert remote(service, api, dimensions=384).embed(TEXTS).shape == (5, 384)


def test_dimensions_that_the_service_does_not_give_are_refused(service, api):
    with pytest.raises(EmbeddingError, match=r"384 dimensions .*`embedding_dimensions` is 128"):
        remote(service, api, dimensions=128)


def test_a_service_that_has_another_model_later_is_asked_anew(service):
    options = EmbeddingOptions(MODEL_NAME, service=ServiceOptions(service.openai))
    made = load_embedder(options)
    assert load_embedder(options) is made
    service.size = 100
    with pytest.raises(EmbeddingError, match="Has it another model now"):
        made.embed(["a text"])
    assert load_embedder(options).vector_size == 100


# -- keys and proxies ------------------------------------------------------------------------------


def test_a_service_on_this_machine_is_reached_through_no_proxy(service, api, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert remote(service, api, max_retries=0).embed(["a text"]).shape == (1, 384)


def test_a_key_that_goes_to_another_machine_without_tls_is_warned_of(caplog):
    from dagster_qdrant.embedding.service_client import ServiceClient

    ServiceClient(ServiceOptions("http://other.example/v1", api_key="k"), 1)
    assert re.search(r"key goes to http://other.example/v1 without TLS", caplog.text)
