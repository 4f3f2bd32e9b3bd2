"""``python -m taid_vlm_eval``."""

import sys

from taid_vlm_eval.cli import main

if __name__ == "__main__":
    sys.exit(main())
