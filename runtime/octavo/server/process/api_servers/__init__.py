"""Several API processes before one engine (`--api-server-count`): they take connections from one socket, and
the process that started them keeps all that must be one."""
