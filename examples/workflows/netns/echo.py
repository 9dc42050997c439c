"""echo.py serve ADDRESS PORT | ask ADDRESS PORT: a TCP server that answers with the client's address, and its client."""

import socket
import sys

what, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "serve":
    with socket.create_server((address, port)) as server:
        while True:
            client, (host, _) = server.accept()
            with client:
                client.sendall(f"{host}\n".encode())
else:
    with socket.create_connection((address, port), timeout=5) as connection:
        print(connection.makefile().readline().strip())
