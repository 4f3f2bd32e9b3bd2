"""`python -m taid_vlm ...` is the command line, so that `accelerate launch -m taid_vlm train ...` works."""

from taid_vlm.cli import main

if __name__ == "__main__":
    main()
