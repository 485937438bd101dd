"""`python -m headwater`, and `torchrun -m headwater`."""

from headwater.cli.main import command

if __name__ == "__main__":
    command()
