"""Speed as ratios within one run: the machine drifts, so both sides are timed in turn."""
