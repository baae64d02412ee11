"""`python -m raffect`: the same commands where the console script is not on the path."""

from raffect.cli.app import main

if __name__ == "__main__":
    main()
