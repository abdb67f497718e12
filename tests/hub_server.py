"""A hub on 127.0.0.1 for the real hub client: serves local folders under the hub's API, and fails on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is served and what happened.

    Attributes:
        repos: hub id to the folder with its files.
        gated: hub ids that need an account.
        cuts: file path to the number of downloads that are still to be cut off in the middle.
        downloads: (repo, path, value of the Range header) of every download, in order.
        url: where the server listens.
    """

    repos: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    cuts: dict[str, int] = field(default_factory=dict)
    downloads: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def downloaded(self, repo: str) -> set[str]:
        return {path for name, path, _ in self.downloads if name == repo}


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the server in a thread while the block lasts."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+)?", path):
            if folder := self._folder(match[1]):
                tree = (match[2] or "").startswith("/tree/")
                self._json(_tree(folder) if tree else {"id": match[1], "sha": COMMIT, "siblings": []})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            if folder := self._folder(match[1]):
                self._file(match[1], folder, match[2], with_body=with_body)
        else:
            self._refuse(404, "EntryNotFound")

    def _folder(self, repo: str) -> Path | None:
        if repo in self.served.gated:
            self._refuse(403, "GatedRepo")
        elif repo not in self.served.repos:
            self._refuse(404, "RepoNotFound")
        else:
            return self.served.repos[repo]
        return None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, repo: str, folder: Path, path: str, *, with_body: bool) -> None:
        file = folder / path
        if not file.is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = file.read_bytes()
        wanted = self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and with_body else 0  # type: ignore[index]
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_digest(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not with_body:
            return
        self.served.downloads.append((repo, path, wanted))
        if self.served.cuts.get(path, 0) > 0:
            self.served.cuts[path] -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(content[start:])


def _tree(folder: Path) -> list[dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "oid": _digest(path.read_bytes()),
        }
        for path in files
    ]


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
