"""`python -m omnialpha`: the command line."""

from omnialpha.apps.cli import main

if __name__ == "__main__":
    main()
