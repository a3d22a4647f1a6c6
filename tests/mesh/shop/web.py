"""A web server of the standard library. It knows nothing of a mesh: only the ports that it is given."""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        match self.path.split("/"):
            case ["", "who"]:
                self.answer(json.dumps(whoami(self.server.server_port)).encode())
            case ["", "headers"]:
                self.answer(json.dumps(self.headers.items()).encode())
            case ["", "quit"]:
                os._exit(3)
            case ["", "stream", seconds]:
                self.stream(float(seconds))
            case ["", "socket"]:
                self.upgrade()
            case _:
                self.answer(b"ready")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["content-length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, seconds: float) -> None:
        """A line now, and one after a long silence."""
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"begun\n")
        time.sleep(seconds)
        self.wfile.write(b"ended\n")

    def upgrade(self) -> None:
        """After the handshake of a WebSocket every byte comes back."""
        self.close_connection = True
        self.send_response(101)
        self.send_header("connection", "upgrade")
        self.send_header("upgrade", self.headers["upgrade"])
        self.end_headers()
        while some := self.connection.recv(1000):
            self.connection.sendall(some)


class Upper(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while some := self.request.recv(1000):
            self.request.sendall(some.upper())


def whoami(port: int) -> dict[str, object]:
    return {"name": os.environ.get("NAME"), "pid": os.getpid(), "prefix": sys.prefix, "port": port}


def main() -> None:
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(float(os.environ.get("SLOW", "0")))
    host = os.environ["HOST"]
    servers: list[socketserver.TCPServer] = [ThreadingHTTPServer((host, int(os.environ["PORT_HTTP"])), Web)]
    if admin := os.environ.get("PORT_ADMIN"):
        servers.append(ThreadingHTTPServer((host, int(admin)), Web))
    if raw := os.environ.get("PORT_RAW"):
        servers.append(socketserver.ThreadingTCPServer((host, int(raw)), Upper))
    for server in servers:
        threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    main()
