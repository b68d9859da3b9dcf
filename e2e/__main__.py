"""The bed's verbs, for the Makefile: up, down, env, image, tools, and `with COMMAND ...` to run one in a bed."""

import argparse
import subprocess
import sys

from e2e import binaries, cluster, docker, images


def main() -> int:
    """Carry out one verb; say what went wrong in the words of the program that failed."""
    verbs = {"up": up, "down": cluster.down, "env": env, "image": image, "tools": tools}
    parser = argparse.ArgumentParser(prog="python -m e2e")
    parser.add_argument("verb", choices=[*verbs, "with"])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="for with")
    given = parser.parse_args()
    try:
        if given.verb == "with":
            with cluster.bed():
                return subprocess.run(given.command, check=False).returncode
        verbs[given.verb]()
    except subprocess.CalledProcessError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up() -> None:
    cluster.up()
    print('the cluster is up; to reach it from this shell: eval "$(make -s env)"')


def env() -> None:
    if not cluster.is_up():
        sys.exit("no cluster is up; make one with: make up")
    print(cluster.current().exports())


def image() -> None:
    with docker.daemon():
        print(images.controller_image())


def tools() -> None:
    binaries.ensure(*binaries.FOR_TESTS)


if __name__ == "__main__":
    sys.exit(main())
