"""Servers that are not the group, for test_package.py."""

import socket
import threading


class Relay:
    """Leads to the group, until somebody else takes its place. It can be held: then it accepts, and leads when let go."""

    def __init__(self, host, port, held=False):
        self.group = (host, port)
        self.accepted = 0
        self.reached = threading.Event()
        self.let_go = threading.Event()
        if not held:
            self.let_go.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # shutdown ends accept, which close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.reached.set()
            threading.Thread(target=self._lead, args=(connection, self.group), daemon=True).start()

    def _lead(self, connection, group):
        self.let_go.wait()
        with connection:
            if group is None:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.recv(65536)
                return
            with socket.create_connection(group) as there:
                threading.Thread(target=_pump, args=(there, connection), daemon=True).start()
                _pump(connection, there)


class Silent:
    """Accepts, and never says a word. Counts whom it accepted; after the first, it hangs up on them."""

    def __init__(self):
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        kept = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.accepted += 1
            if self.accepted == 1:
                kept.append(connection)
            else:
                connection.close()
        for connection in kept:
            connection.close()


def _pump(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
