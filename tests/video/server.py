"""A server of one video, in a process of its own: at the video's speed, stalling, or dying.

    python server.py FILE SECONDS

Prints its port. `/whole` takes so many seconds, as a live stream; `/stalls` sends half of the file
and then nothing, `/dies` half of what it has announced.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECES = 50
CHUNKED = ("Transfer-Encoding", "chunked")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        data, seconds = Path(sys.argv[1]).read_bytes(), float(sys.argv[2])
        dies = self.path.startswith("/dies")
        self.send_response(200)
        # Without a length only chunks tell FFmpeg an end from a failure.
        self.send_header(*(("Content-Length", str(len(data))) if dies else CHUNKED))
        self.end_headers()
        size = -(-len(data) // PIECES)
        count = PIECES if self.path.startswith("/whole") else PIECES // 2
        for at in range(0, count * size, size):
            piece = data[at : at + size]
            self.wfile.write(piece if dies else b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(seconds / PIECES)
        if self.path.startswith("/stalls"):
            time.sleep(60)
        if not dies:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
