"""Switch a fault from the shell: `python -m examples.aureus.fault NAME on|off --control URL`."""

from __future__ import annotations

import argparse
import sys

import httpx

from examples.aureus.faults import FAULTS


def main(argv: list[str] | None = None) -> int:
    """Print the control API's answer; 0 when it did as told, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m examples.aureus.fault", description=__doc__)
    parser.add_argument("name", choices=list(FAULTS))
    parser.add_argument("state", choices=["on", "off"])
    parser.add_argument("--control", required=True, metavar="URL", help="'control' of the stand-in's ready line")
    arguments = parser.parse_args(argv)
    try:
        response = httpx.post(
            f"{arguments.control}/faults/{arguments.name}",
            json={"on": arguments.state == "on"},
            timeout=30,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        sys.stderr.write(f"the load generator does not answer at {arguments.control}: {error}\n")
        return 1
    sys.stdout.write(response.text + "\n")
    return 0 if response.is_success else 1


if __name__ == "__main__":
    sys.exit(main())
