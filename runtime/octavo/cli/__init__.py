"""The `octavo` command. Each command imports what it needs when it runs: `--help` is instant."""
