"""`python -m abx`, which is `abx`."""

from abx.cli import main

if __name__ == "__main__":
    main()
