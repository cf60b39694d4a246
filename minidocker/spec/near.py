"""What a word that is not known may have meant; asked only after an error."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 3


def near(word: str, candidates: Iterable[str], edits: int = 2) -> list[str]:
    """Up to three candidates: at most `edits` away from `word`, or containing it (from three letters on); the nearest first."""
    scored = sorted((distance(word, candidate), candidate) for candidate in candidates)
    return [candidate for away, candidate in scored if away <= edits or (len(word) > 2 and word in candidate)][:_MOST]


def distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and replacements. (difflib would cost an import of re and collections.)"""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
