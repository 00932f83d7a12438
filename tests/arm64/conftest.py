"""These tests run inside the emulated machine, or on wheels that were built: `make test-arm64`, `make wheels`. `make test` leaves them out."""

import os

CASES_VARIABLE = "TFLITE_SMART_ARM64_CASES"
PYTHON_VARIABLE = "TFLITE_SMART_ARM64_PYTHON"
WHEELS_VARIABLE = "TFLITE_SMART_WHEELS"

collect_ignore = [] if os.environ.get(CASES_VARIABLE) else ["test_same_outputs.py"]
collect_ignore += [] if os.environ.get(WHEELS_VARIABLE) else ["test_wheels.py"]
