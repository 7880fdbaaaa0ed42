"""Find out which texts a service cuts without saying so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dagster_qdrant.embedding.service_api import Answer, Sleep
from dagster_qdrant.embedding.service_client import RequestRefusedError

if TYPE_CHECKING:
    pass

# No model takes less than 128 tokens, and there is hardly a language with a token a character.
_ALWAYS_WHOLE = 256
# The end of a text, as a share of it, that is exchanged to see whether that makes a difference.
_END = 0.05
_ANOTHER_END = " zebra 7 quartz lantern, harbour 19 violin mosaic copper"
_CHARACTERS_A_TOKEN = 4
# One text embedded twice may differ by so much, in half precision.
_SAME = 1 - 2e-5


class SilentCuts:
    """Learns from how many characters on a service cuts texts.

    A text whose end makes no difference to its vector was cut. The longest of some texts is tried
    first; if it was not cut, none was, nor will one be that is not longer. So a service that cuts
    nothing is asked once for each text that is longer than all before. Texts of one length differ
    in their tokens, so what is counted is near the truth and not exact.

    Args:
        request: Embeds texts in one request.
    """

    def __init__(self, request: Callable[[Sequence[str], Sleep], Answer]) -> None:
        self._request = request
        self._whole = _ALWAYS_WHOLE  # characters of a text that was not cut
        self._cut: float = float("inf")  # and of one that was
        self._refuses = False
        self._guard = threading.Lock()

    def is_possible(self, texts: Sequence[str]) -> bool:
        """Whether some of the texts may have been cut."""
        return not self._refuses and any(len(text) > self._whole for text in texts)

    def find(self, texts: Sequence[str], sleep: Sleep) -> dict[int, int]:
        """About how many tokens are cut off, by the position of each text that is cut.

        Args:
            texts: Texts that are embedded.
            sleep: Waits for some seconds, before a further try of a request.
        """
        with self._guard:
            self._learn(sorted(texts, key=len), sleep)
            limit = (self._whole + self._cut) / 2
            return {
                position: max(1, int((len(text) - limit) / _CHARACTERS_A_TOKEN))
                for position, text in enumerate(texts)
                if len(text) >= self._cut
            }

    def _learn(self, by_length: Sequence[str], sleep: Sleep) -> None:
        """Try one text after the other until it is known of each whether it is cut."""
        while unknown := [text for text in by_length if self._whole < len(text) < self._cut]:
            # Mostly nothing is cut, and then the longest settles it.
            text = unknown[-1] if self._cut == float("inf") else unknown[len(unknown) // 2]
            try:
                is_cut = self._is_cut(text, sleep)
            except RequestRefusedError:
                self._refuses = True
                return
            if is_cut:
                self._cut = len(text)
            else:
                self._whole = len(text)

    def _is_cut(self, text: str, sleep: Sleep) -> bool:
        import numpy as np

        end = max(1, int(len(text) * _END))
        another = _ANOTHER_END * (end // len(_ANOTHER_END) + 1)
        vectors = self._request([text, text[:-end] + another[:end]], sleep).vectors
        one, other = (vector / np.linalg.norm(vector) for vector in vectors)
        return float(one @ other) > _SAME
