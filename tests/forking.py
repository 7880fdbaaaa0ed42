"""Processes that start with what they import: each would take two seconds of a core for it."""

import dagster as dg

# The first to be started in a test process decides what the others start with.
PRELOADED = (
    "dagster._core.executor.multiprocess",
    "dagster._core.storage.event_log",
    "fastembed",
    "qdrant_client",
    "tests.crashing",
)

# Each step in a process of its own. It has the environment of the first that was started.
processes = dg.multiprocess_executor.configured(
    {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}, name="processes"
)
