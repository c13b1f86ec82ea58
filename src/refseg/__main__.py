"""`python -m refseg`."""

from refseg.cli import main

if __name__ == "__main__":
    main()
