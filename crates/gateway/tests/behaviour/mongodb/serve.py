"""Starts a server that speaks as MongoDB does on a free port of loopback, says the port once it
answers, and ends it, with all that it kept, when standard input closes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS = 60


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def main():
    # In memory where there is such a place: nx-27017 waits for the disk once a document.
    memory = "/dev/shm"
    place = memory if os.access(memory, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="nightgate-mongo-", dir=place)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)).replace("FOLDER", folder) for word in sys.argv[1:]]
    server = subprocess.Popen(
        words, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_SECONDS
        while not answers(port):
            if server.poll() is not None or time.monotonic() > end:
                sys.exit(f"{words[0]} did not start")
            time.sleep(0.02)
        print(port, flush=True)
        sys.stdin.read()
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


main()
