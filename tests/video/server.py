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


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data, seconds = Path(sys.argv[1]).read_bytes(), float(sys.argv[2])
        self.send_response(200)
        if self.path.startswith("/dies"):
            self.send_header("Content-Length", str(len(data)))
        else:
            # Else FFmpeg takes the end of a stream without a length for a failure.
            self.send_header("Connection", "close")
        self.end_headers()
        size = -(-len(data) // PIECES)
        count = PIECES if self.path.startswith("/whole") else PIECES // 2
        for piece in range(count):
            self.wfile.write(data[piece * size : (piece + 1) * size])
            self.wfile.flush()
            time.sleep(seconds / PIECES)
        if self.path.startswith("/stalls"):
            time.sleep(60)

    def log_message(self, *words: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
