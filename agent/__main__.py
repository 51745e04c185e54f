"""`python -m agent --config-file FILE`."""

import sys

from agent.main import main

if __name__ == "__main__":
    sys.exit(main())
