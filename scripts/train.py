"""Train an agent: `python scripts/train.py --algo sac --env ant --seeds 8`, as `purerl train` does."""

import sys

from purerl.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
