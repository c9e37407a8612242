"""`python -m meshcore` is `meshctl`."""

from meshcore.cli.main import main

if __name__ == "__main__":
    main()
