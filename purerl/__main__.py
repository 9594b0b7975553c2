"""`python -m purerl` is the command `purerl`."""

from purerl.cli.main import main

if __name__ == "__main__":
    main()
