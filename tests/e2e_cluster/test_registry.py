"""Only old tags leave the registry."""

from __future__ import annotations

from e2e.registry.container import Tag, tags_to_remove


def test_each_repository_keeps_its_newest_tags() -> None:
    tags = [
        Tag("runtime", "old", 1.0),
        Tag("runtime", "newest", 3.0),
        Tag("runtime", "newer", 2.0),
        Tag("operator", "only", 0.0),
    ]
    assert tags_to_remove(tags, kept=2) == [Tag("runtime", "old", 1.0)]


def test_nothing_is_removed_when_nothing_is_old() -> None:
    assert tags_to_remove([Tag("a", "1", 1.0), Tag("b", "1", 1.0)], kept=1) == []
