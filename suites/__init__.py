"""Outside suites: clients, frameworks and harnesses as their users run them, against a live server."""
