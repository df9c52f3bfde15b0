"""``python -m opensips_py``: the same as the command ``opensips-py``."""

import sys

from workers.launcher import main

sys.exit(main())
