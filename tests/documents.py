"""The project's documents as tests read them: their code blocks, their links, the names that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [found[2] for found in FENCE.finditer(text) if found[1] == language]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return FENCE.sub("", text)


def links(text: str) -> Iterator[str]:
    """Targets of links and pictures that lead nowhere outside the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """What `#…` may follow a link to this document: its headings, as GitHub names them, and its own names."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(text)))
    return {word.replace(" ", "-") for word in words} | set(re.findall(r'<a name="([^"]+)">', text))
