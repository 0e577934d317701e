"""Module form of the command. `python -m octavo`: the command without its script, for images and virtual
environments."""

from octavo.cli.entry import main

main()
