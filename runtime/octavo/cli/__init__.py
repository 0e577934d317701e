"""Commands of `octavo`. Each command imports what it needs when it runs: `--help` is instant."""
