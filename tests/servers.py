"""Servers on 127.0.0.1 that hand out files and fail on command: HTTP with range requests, XRootD behind a proxy."""

import os
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def absent(words):
    """Skip the test, saying why, or fail where DIMUON_REQUIRE_SERVERS is set: there everything has been installed."""
    (pytest.fail if os.environ.get("DIMUON_REQUIRE_SERVERS") else pytest.skip)(words)


class Faults:
    """What goes wrong, and how often. kind: None or a name below. times: how many requests fail. after: requests that
    are served well before the first failure. HTTP: "503", "cut", "stall", "404"; proxy: "cut", "stall"."""

    def __init__(self, kind=None, times=1, after=0):
        self.kind, self.times, self.after, self.lock = kind, times, after, threading.Lock()

    def strike(self):
        """The kind of fault for this request, or None."""
        with self.lock:
            if self.kind is None or self.times <= 0:
                return None
            if self.after > 0:
                self.after -= 1
                return None
            self.times -= 1
            return self.kind


@contextmanager
def http(folder, faults=None, answers=None):
    """Serve the files below `folder`; yields (address, Faults). answers: {path: bytes} served beside the files."""
    faults, answers = faults or Faults(), answers or {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.respond(body=False)

        def do_GET(self):
            self.respond(body=True)

        def respond(self, body):
            path = Path(folder) / self.path.lstrip("/")
            content = answers.get(self.path) or (path.read_bytes() if path.is_file() else None)
            fault = faults.strike() if body else None
            if content is None or fault == "404":
                return self.send_error(404)
            if fault == "503":
                return self.send_error(503)
            if fault == "stall":
                time.sleep(faults.stall)
                self.close_connection = True
                return None
            self.send_content(content, body, cut=fault == "cut")

        def send_content(self, content, body, cut):
            ranges = re.findall(r"(\d+)-(\d*)", self.headers.get("Range", "").removeprefix("bytes="))
            parts = [(int(low), min(int(high or len(content) - 1), len(content) - 1)) for low, high in ranges]
            if not parts:
                self.send_response(200)
                payload = content
            elif len(parts) == 1:
                (low, high), size = parts[0], len(content)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {low}-{high}/{size}")
                payload = content[low : high + 1]
            else:
                self.send_response(206)
                self.send_header("Content-Type", "multipart/byteranges; boundary=EDGE")
                payload = b"".join(
                    f"\r\n--EDGE\r\nContent-Range: bytes {low}-{high}/{len(content)}\r\n\r\n".encode()
                    + content[low : high + 1]
                    for low, high in parts
                ) + b"\r\n--EDGE--\r\n"  # fmt: skip
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if body:
                self.wfile.write(payload[: len(payload) // 2] if cut else payload)
                self.wfile.flush()
            if cut:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    faults.stall = getattr(faults, "stall", 5)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *arguments: None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        server.server_close()


def has_xrootd_server():
    """True where both the server `xrootd` and the client libraries are installed."""
    from dimuon.data import sources

    return shutil.which("xrootd") is not None and sources.has_xrootd()


@contextmanager
def xrootd(folder, work):
    """An XRootD server for the files below `folder`, with adler32 checksums; yields its port. work: scratch folder."""
    port = free_port()
    config = Path(work) / "xrootd.cfg"
    config.write_text(
        f"xrd.port {port}\nxrd.protocol xrootd *\noss.localroot {folder}\nall.export / r/o\n"
        f"xrootd.chksum adler32\nall.adminpath {work}/admin\nall.pidpath {work}/pid\nxrd.network nodnr\n"
    )
    (Path(work) / "admin").mkdir(exist_ok=True)
    user = ["-R", "daemon"] if os.geteuid() == 0 else []  # XRootD refuses to run as root
    for path in (Path(work), *Path(work).rglob("*")):
        os.chmod(path, 0o777)
    log = open(Path(work) / "xrootd.log", "wb")
    process = subprocess.Popen(["xrootd", "-c", str(config), *user], stdout=log, stderr=log, cwd=work)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        log.close()


@contextmanager
def proxy(port, faults):
    """A TCP proxy before a local port that strikes connections down as `faults` says; yields its own port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", port)) as upstream:
                back = threading.Thread(target=self.pump, args=(upstream, self.request, faults), daemon=True)
                back.start()
                self.pump(self.request, upstream, Faults())
                back.join(5)

        def pump(self, source, target, faults):
            try:
                while block := source.recv(1 << 14):
                    fault = faults.strike()
                    if fault == "stall":
                        time.sleep(faults.stall)
                    if fault is not None:
                        break
                    target.sendall(block)
            except OSError:
                pass
            for side in (source, target):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def free_port():
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, seconds=15):
    """Return when something listens on the port; RuntimeError where the process ends or time is up."""
    for _ in range(int(seconds / 0.05)):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")
