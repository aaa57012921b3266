"""Run the command as `python -m compiler`."""

from compiler.cli import run

if __name__ == "__main__":
    run()
