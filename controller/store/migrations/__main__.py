"""`python -m controller.store.migrations URL` brings a database to this program's schema revision."""

import sys

from controller.store.migrations import upgrade

if len(sys.argv) != 2:
    sys.exit("usage: python -m controller.store.migrations URL")
upgrade(sys.argv[1])
