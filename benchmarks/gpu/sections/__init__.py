"""Sections. One measurement per file, each a function `run(context) -> SectionResult`."""
