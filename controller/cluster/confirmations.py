"""What the nodes of this controller have confirmed, for the other controllers: they wait for it, and answer for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.store.cluster import Confirmation


class Confirmations:
    """Collects what is new. `generation` is that of this controller's lease of a node, None where it has none;
    `describe` is how a node's session is described. Nothing here waits.
    """

    def __init__(
        self, generation: Callable[[str], int | None], describe: Callable[[str], Mapping[str, Any] | None]
    ) -> None:
        self._generation = generation
        self._describe = describe
        self._latest: dict[str, tuple[int, int | None]] = {}
        self._written: dict[str, Confirmation] = {}

    def note(self, node: str, revision: int, unclaimed: int | None) -> None:
        self._latest[node] = revision, unclaimed

    def news(self) -> list[Confirmation]:
        """What others do not know yet."""
        found = []
        for node, (revision, unclaimed) in list(self._latest.items()):
            generation, session = self._generation(node), self._describe(node)
            if generation is None or session is None:
                continue
            confirmation = Confirmation(node, generation, revision, unclaimed, session)
            if self._written.get(node) != confirmation:
                found.append(confirmation)
        return found

    def written(self, confirmations: Iterable[Confirmation]) -> None:
        self._written.update((one.node, one) for one in confirmations)

    def forget(self) -> None:
        """Somebody has come who knows nothing yet."""
        self._written.clear()
