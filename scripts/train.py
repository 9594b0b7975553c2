"""Train an agent: `python scripts/train.py --algo sac --env ant --seeds 8`."""

from purerl.cli.train import main

if __name__ == "__main__":
    main()
