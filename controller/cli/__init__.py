"""The operator's `trunkline` command: a client of the REST API, one file per command group."""

# First, and not where it is needed: CPython runs what is nested as deep as that up to five times slower, where its
# stack of frames (16 KB a piece) ends, and urllib3 compiles long regular expressions. Of 100 ms, 10.
import urllib3  # noqa: F401
