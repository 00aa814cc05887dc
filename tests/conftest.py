"""Settings of the whole suite."""

import gc
import os

# Three workers share two cores, which each alone leaves idle while it waits; set before torch is imported.
os.environ.setdefault('OMP_NUM_THREADS', '1')


def pytest_collection_finish():
    """Let the garbage collector pass over all that was imported, which MMEngine's data sets make it walk twice each."""
    gc.collect()
    gc.freeze()
