"""The command `greenroom`."""

import sys

# What shells expect of a program that Ctrl-C has ended.
INTERRUPTED = 130


def main() -> None:
    """
    Run the command line.
    """
    try:
        # Not before: importing takes a moment, in which Ctrl-C must not end in a traceback.
        from gateway.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
