"""`python -m kan_fast`: the same as the command `kan-fast`."""

import sys

from kan_fast.cli import main

sys.exit(main())
