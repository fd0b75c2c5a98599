"""Runs ministack on loopback until standard input ends: with the test that started it."""

import os
import sys
import threading


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()
port = sys.argv.pop(1)
os.environ.update(
    BIND_HOST="127.0.0.1",
    MINISTACK_HOST="127.0.0.1",
    GATEWAY_PORT=port,
    # As on AWS: a function may do what its role says, and nothing else.
    AUTH="true",
    # Where its functions find AWS. Not where ministack listens: it asks nobody.
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
)

from ministack.app import main  # noqa: E402: it reads the environment when it is loaded

main()
