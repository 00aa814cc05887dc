"""Settings of the whole suite."""

import os

# Two workers share two cores; set before torch is imported.
os.environ.setdefault('OMP_NUM_THREADS', '1')
