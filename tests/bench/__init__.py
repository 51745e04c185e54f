"""What is promised as a figure is measured here, never in a test. `tests/run bench [NAME ...]`."""
