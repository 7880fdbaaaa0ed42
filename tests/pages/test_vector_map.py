"""The picture of a collection's vectors."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from dagster_qdrant.pages import vector_map
from dagster_qdrant.pages.vector_map import LANDMARKS, VectorMap


def cloud(count: int = 300, size: int = 384) -> np.ndarray:
    vectors = np.random.default_rng(7).normal(size=(count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def picture(markdown: str) -> Image.Image:
    [data] = re.findall(r"\(data:image/png;base64,([^)]*)\)", markdown)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def labelled(shown: VectorMap, text: str = "a label of {} characters") -> dict[int, str]:
    return {index: text.format(index) for index in shown.landmarks}


def test_it_is_a_small_picture():
    shown = VectorMap.of(cloud())
    markdown = shown.markdown(labelled(shown))
    assert len(markdown.encode()) < 30_000
    drawn = picture(markdown)
    assert (drawn.format, drawn.size) == ("PNG", (720, 420))


def test_it_is_a_card_of_its_own_on_a_light_and_on_a_dark_page():
    drawn = picture(VectorMap.of(cloud()).markdown({})).convert("RGBA")
    assert drawn.getpixel((0, 0))[3] == 0  # a round corner
    red, green, blue, opaque = drawn.getpixel((360, 6))
    assert opaque > 250
    assert max(red, green, blue) < 64


def test_the_same_vectors_give_the_same_picture():
    assert VectorMap.of(cloud()).markdown({}) == VectorMap.of(cloud()).markdown({})


def test_near_vectors_lie_together():
    rng = np.random.default_rng(1)
    one, other = (rng.normal(size=384) for _ in range(2))
    vectors = np.array([centre + rng.normal(size=384) / 100 for centre in [one, other] * 50])
    shown = VectorMap.of(vectors)
    across = shown.places[:, 0]
    assert abs(across[::2].mean() - across[1::2].mean()) > 0.9
    assert shown.explained > 0.9
    assert {index % 2 for index in shown.landmarks} == {0, 1}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_vectors_are_enough(count):
    shown = VectorMap.of(cloud(count))
    assert set(shown.landmarks) <= set(range(count))
    assert 1 <= len(shown.landmarks) <= LANDMARKS
    assert picture(shown.markdown(labelled(shown))).size == (720, 420)


@pytest.mark.parametrize("vectors", [np.ones((50, 8)), np.zeros((50, 8)), np.ones((2, 1))])
def test_vectors_that_are_all_alike_lie_in_the_middle(vectors):
    shown = VectorMap.of(vectors)
    assert (shown.places == 0.5).all()
    assert len(shown.landmarks) == 1
    assert picture(shown.markdown(labelled(shown)))


def test_labels_are_on_the_card_and_hide_no_other_label():
    shown = VectorMap.of(cloud())
    near = [(400 + index * 10, 400.0) for index in range(len(shown.places))]
    labels = dict.fromkeys(range(300), "a label that is rather long")
    placed = list(vector_map._placed(range(300), labels, near).values())
    assert len(placed) > 4
    for left, top, right, bottom in placed:
        assert 0 <= left < right <= 1440
        assert 0 <= top < bottom <= 840
    for one, other in itertools.combinations(placed, 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart


def test_a_label_shows_in_the_picture():
    shown = VectorMap.of(cloud(30))
    one = picture(shown.markdown(dict.fromkeys(shown.landmarks, "robots"))).convert("RGBA")
    other = picture(shown.markdown(dict.fromkeys(shown.landmarks, "lovers"))).convert("RGBA")
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("text", ["千と千尋の神隠し", "😀 film", "Amélie", "الفيلم"])
def test_a_label_that_the_font_cannot_write_stands_below_under_a_number(text):
    shown = VectorMap.of(cloud(3))
    index = shown.landmarks[0]
    markdown = shown.markdown({index: text})
    assert markdown.endswith(f"\n\n1\\. {text}")
    numbered = picture(markdown).tobytes()
    assert numbered == picture(shown.markdown({index: "1"})).tobytes()


def test_a_label_below_the_picture_is_no_markdown():
    shown = VectorMap.of(cloud(3))
    markdown = shown.markdown({shown.landmarks[0]: "é ![x](http://evil) <img>"})
    assert markdown.endswith("\n\n1\\. é !\\[x\\](http://evil) \\<img\\>")


def test_the_words_below_promise_what_the_plane_holds():
    few = VectorMap.of(np.eye(3)).markdown({})
    assert "3 of 3 points. This plane shows all of their differences." in few
    assert "may still differ" not in few
    many = VectorMap.of(np.eye(9)).markdown({}, total=20)
    assert "9 of 20 points. This plane shows 25% of their differences" in many
    assert "Points that are close here may still differ." in many
