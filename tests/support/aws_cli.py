"""Run the AWS CLI without its imports, which saves half a second for each of the 60 commands in `docs/deploying.md`.

`python tests/support/aws_cli.py SOCKET` listens for clients. For each client, it forks a process that takes over the client's
arguments, directory, environment and descriptors, and runs the CLI. `CLIENT` is the program to put on PATH as `aws`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect({socket!r})
    call = [sys.argv[1:], os.getcwd(), dict(os.environ)]
    socket.send_fds(connection, [json.dumps(call).encode()], [0, 1, 2])
    sys.exit(int(connection.recv(16) or b"1"))
"""


def serve(path: str) -> None:
    import awscli.clidriver

    awscli.clidriver.create_clidriver()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that forked processes don't become zombies
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    import awscli.clidriver

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 3)
        arguments, folder, environment = json.loads(message)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(folder)
        models = os.environ["AWS_DATA_PATH"]  # set by the import
        os.environ.clear()
        os.environ.update(environment, AWS_DATA_PATH=models)
        sys.argv = ["aws", *arguments]
        code = awscli.clidriver.main()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        connection.send(b"%d" % code)
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
