"""Vectors -> a small picture of how they lie, for a page that shows Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_qdrant.pages.markdown import escaped

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    Box = tuple[float, float, float, float]

LANDMARKS = 8

# The card has a background of its own, so it reads alike on a light and on a dark page.
_WIDTH, _HEIGHT, _MARGIN = 720, 420, 36
_CARD, _EDGE, _PILL, _TEXT = "#0f172a", "#334155", "#1e293b", "#e2e8f0"
_SHADES = ((45, 212, 191), (129, 140, 248), (244, 114, 182))
_COLORS = 64
_SHARPER = 2  # drawn so much larger and then reduced, which smooths the edges

# Differences below this are those of rounding; a vector of a text model has the length 1.
_NOTHING = 1e-5


@dataclass(frozen=True)
class VectorMap:
    """Vectors laid out on a plane along the directions in which they differ most.

    Args:
        places: For each vector, where it lies across, down and (as its shade) in depth: 0 to 1.
        explained: The part of all differences that across and down show, 0 to 1.
        landmarks: The vectors that stand for the regions of the map, the most central first.
    """

    places: np.ndarray
    explained: float
    landmarks: tuple[int, ...]

    @classmethod
    def of(cls, vectors: np.ndarray) -> VectorMap:
        """Lay vectors out; the same ones always alike.

        Args:
            vectors: One a row, all of them finite; at least one.
        """
        import numpy as np

        centred = np.asarray(vectors, dtype=np.float64) - np.mean(vectors, axis=0)
        # The principal components, by way of the inner products: quicker than a decomposition of
        # the vectors, which have more dimensions than there are vectors.
        variances, directions = np.linalg.eigh(centred @ centred.T)
        variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
        components = np.zeros((len(centred), 3))
        seen = min(3, len(centred))
        components[:, :seen] = directions[:, :seen] * np.sqrt(variances[:seen])
        # A singular vector may as well point the other way.
        strongest = components[np.abs(components).argmax(axis=0), range(3)]
        components *= np.where(strongest < 0, -1, 1)
        low, span = components.min(axis=0), np.ptp(components, axis=0)
        flat = span < _NOTHING * max(1.0, float(span[0]))
        places = np.where(flat, 0.5, (components - low) / np.where(flat, 1, span))
        if not flat[2]:  # by rank, so that a few far-off points do not take all the colours
            places[:, 2] = components[:, 2].argsort().argsort() / (len(components) - 1)
        explained = float(variances[:2].sum() / variances.sum()) if not flat[0] else 1.0
        return cls(places, explained, _landmarks(places[:, :2]))

    def markdown(self, labels: Mapping[int, str], total: int = 0) -> str:
        """The picture, and below it what it shows.

        Args:
            labels: Short texts of landmarks. One with letters that the picture's font lacks stands
                below it, under a number.
            total: How many points there are, if these are a sample.
        """
        font = _font()
        plain = {index: text for index, text in labels.items() if _can_draw(font, text)}
        others = [index for index in labels if index not in plain]
        numbers = {index: str(number) for number, index in enumerate(others, start=1)}
        picture = base64.b64encode(self._png(plain | numbers)).decode()
        count = len(self.places)
        points = f"{count:,} of {max(count, total):,} points."
        lines = [
            f"![Map of {count} vectors](data:image/png;base64,{picture})",
            *(
                (f"{points} This plane shows all of their differences.",)
                if self.explained > 1 - _NOTHING  # two or three points lie on a plane
                else (
                    f"{points} This plane shows {self.explained:.0%} of their differences; the "
                    "colour shows one more direction.",
                    "Points that are close here may still differ.",
                )
            ),
            *(f"{numbers[index]}\\. {escaped(labels[index])}" for index in others),
        ]
        return "\n\n".join(lines)

    def _png(self, labels: Mapping[int, str]) -> bytes:
        from PIL import Image, ImageDraw

        size = (_WIDTH * _SHARPER, _HEIGHT * _SHARPER)
        image = Image.new("RGBA", size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle(
            (1, 1, size[0] - 2, size[1] - 2), 14 * _SHARPER, fill=_CARD, outline=_EDGE, width=2
        )
        pixels = [
            (
                (_MARGIN + across * (_WIDTH - 2 * _MARGIN)) * _SHARPER,
                (_MARGIN + (1 - down) * (_HEIGHT - 2 * _MARGIN)) * _SHARPER,
            )
            for across, down, _ in self.places
        ]
        for (x, y), (_, _, depth) in zip(pixels, self.places, strict=True):
            _dot(draw, x, y, 3.5, fill=_shade(float(depth)), outline=_CARD)
        for index, box in _placed(self.landmarks, labels, pixels).items():
            fill = _shade(float(self.places[index][2]))
            _dot(draw, *pixels[index], 5, fill=fill, outline=_TEXT)
            draw.rounded_rectangle(box, 5 * _SHARPER, fill=_PILL, outline=_EDGE, width=2)
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            draw.text(middle, labels[index], font=_font(), fill=_TEXT, anchor="mm")
        return _compressed(image)


def _landmarks(places: np.ndarray) -> tuple[int, ...]:
    """The points nearest to the centres of a few groups (k-means from far-apart points)."""
    import numpy as np

    def distances(centres: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(places[:, None] - centres[None], axis=2))

    centres = places.mean(axis=0)[None]
    while len(centres) < LANDMARKS:
        apart = distances(centres).min(axis=1)
        if apart.max() < _NOTHING:  # each point has its own centre already
            break
        centres = np.vstack([centres, places[apart.argmax()]])
    for _ in range(10):
        nearest = distances(centres).argmin(axis=1)
        centres = np.array(
            [
                places[nearest == group].mean(axis=0) if (nearest == group).any() else centre
                for group, centre in enumerate(centres)
            ]
        )
    return tuple(dict.fromkeys(int(index) for index in distances(centres).argmin(axis=0)))


def _placed(
    landmarks: Sequence[int], labels: Mapping[int, str], pixels: Sequence[tuple[float, float]]
) -> dict[int, Box]:
    """A place for each label that hides as few points as can be, and no other label."""
    placed: dict[int, Box] = {}
    for index in landmarks:
        if index not in labels:
            continue
        free = _free_boxes(labels[index], *pixels[index], list(placed.values()))
        best = min(free, key=lambda box: sum(_is_in(box, *pixel) for pixel in pixels), default=None)
        if best:  # else it is too crowded here for one more
            placed[index] = best
    return placed


def _free_boxes(text: str, x: float, y: float, taken: list[Box]) -> Iterator[Box]:
    """Places for a label beside its point, on the card and clear of other labels."""
    left, top, right, bottom = _font().getbbox(text, anchor="lt")
    width = right - left + 14 * _SHARPER
    height = max(bottom - top, 12 * _SHARPER) + 8 * _SHARPER
    gap, card_edge = 9 * _SHARPER, 6 * _SHARPER
    for start_x, start_y in (
        (x + gap, y - height / 2),
        (x - gap - width, y - height / 2),
        (x - width / 2, y - gap - height),
        (x - width / 2, y + gap),
        (x + gap, y - gap - height),
        (x - gap - width, y - gap - height),
        (x + gap, y + gap),
        (x - gap - width, y + gap),
    ):
        box = (start_x, start_y, start_x + width, start_y + height)
        on_card = (
            box[0] >= card_edge
            and box[1] >= card_edge
            and box[2] <= _WIDTH * _SHARPER - card_edge
            and box[3] <= _HEIGHT * _SHARPER - card_edge
        )
        if on_card and not any(_overlap(box, other) for other in taken):
            yield box


def _overlap(one: Box, other: Box) -> bool:
    between = 3 * _SHARPER
    return (
        one[0] < other[2] + between
        and other[0] < one[2] + between
        and one[1] < other[3] + between
        and other[1] < one[3] + between
    )


def _is_in(box: Box, x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _dot(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, *, fill: Any, outline: str
) -> None:
    reach = radius * _SHARPER
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill, outline=outline, width=2)


def _shade(depth: float) -> tuple[int, ...]:
    """The colour of a depth, between the shades on its two sides."""
    step = min(int(depth * (len(_SHADES) - 1)), len(_SHADES) - 2)
    part = depth * (len(_SHADES) - 1) - step
    return tuple(
        round(a + (b - a) * part) for a, b in zip(_SHADES[step], _SHADES[step + 1], strict=True)
    )


def _font() -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(13 * _SHARPER)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("Pillow was built without FreeType, so it cannot write labels.")
    return font


def _can_draw(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has all letters of a text; what it lacks it draws as one and the same box."""

    def drawn(letter: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    lacking = drawn("\uffff")
    return all(drawn(letter) != lacking for letter in set(text))


def _compressed(image: Image.Image) -> bytes:
    from PIL import Image

    small = image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.quantize(_COLORS, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return file.getvalue()
