"""Null server: `python -m benchmarks.server.null_server FOLDER PORT OPS_PORT NUM_SEQS`, an `octavo serve`
whose engine process is the null engine. All else is the server that users start."""

from __future__ import annotations

import sys

from octavo.config import EngineConfig
from octavo.server.process.options import ServeOptions
from octavo.server.process.run import serve

MAX_MODEL_LEN = 2048


def main() -> int:
    folder, port, ops_port, num_seqs = sys.argv[1:5]
    return serve(
        ServeOptions(
            model=folder,
            served_names=("bench",),
            port=int(port),
            ops_port=int(ops_port),
            log_level="warning",
            engine=EngineConfig(
                model=folder,
                max_model_len=MAX_MODEL_LEN,
                max_num_seqs=int(num_seqs),
                max_num_batched_tokens=max(8192, int(num_seqs)),
                max_queued_requests=int(num_seqs),
                enable_prefix_caching=False,
            ),
        ),
        engine_module="benchmarks.server.null_engine",
    )


if __name__ == "__main__":
    sys.exit(main())
