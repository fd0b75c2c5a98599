"""Starts a server that speaks as MongoDB does on loopback, says its port once it answers, and kills
it when standard input closes.

    serve.py PORT FOLDER PROGRAM ...

PORT 0 is any free one. FOLDER - is one of its own, which goes with it. In what follows, PORT and
FOLDER are replaced."""

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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def own_folder():
    # In memory where there is such a place: nx-27017 waits for the disk once a document.
    memory = "/dev/shm"
    place = memory if os.access(memory, os.W_OK) else None
    return tempfile.mkdtemp(prefix="nightgate-mongo-", dir=place)


def main():
    port = int(sys.argv[1]) or free_port()
    own = sys.argv[2] == "-"
    folder = own_folder() if own else sys.argv[2]
    words = [word.replace("PORT", str(port)).replace("FOLDER", folder) for word in sys.argv[3:]]
    nothing = subprocess.DEVNULL
    quiet = {"stdin": nothing, "stdout": nothing, "stderr": nothing}
    server = subprocess.Popen(words, cwd=folder, **quiet)
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
        if own:
            shutil.rmtree(folder, ignore_errors=True)


main()
