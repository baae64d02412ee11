"""A hub of models that speaks what huggingface_hub asks of Hugging Face's: repositories of one
branch, in memory, for one token. `python hub_server.py PORT TOKEN`
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORIES: dict[str, dict[str, bytes]] = {}
COMMITS: dict[str, int] = {}
PRIVATE: dict[str, bool] = {}
OBJECTS: dict[str, bytes] = {}
TOKEN = sys.argv[2] if len(sys.argv) > 2 else ""


def sha_of(repository: str) -> str:
    return hashlib.sha1(f"{repository} {COMMITS[repository]}".encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Each request's path is looked for in `ROUTES`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes | Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        verb = "GET" if self.command == "HEAD" else self.command
        if path.startswith("/lfs/"):
            return self.stored(path[5:])
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        for wanted, pattern, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and verb == wanted:
                repository = match.groupdict().get("repo")
                if repository is not None and repository not in REPOSITORIES:
                    return self.answer(404, {}, X_Error_Code="RepoNotFound")
                return method(self, **match.groupdict())
        sys.stderr.write(f"unknown: {self.command} {self.path}\n")
        return self.answer(404, {"error": "unknown"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        new = name not in REPOSITORIES
        if new:
            REPOSITORIES[name], COMMITS[name] = {".gitattributes": b""}, 0
            PRIVATE[name] = asked.get("private", False)
        url = f"http://{self.headers['Host']}/{name}"
        self.answer(200 if new else 409, {"url": url, "name": name})

    def validate(self) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def info(self, repo: str, rev: str) -> None:
        if rev not in ("main", sha_of(repo)):
            return self.answer(404, {}, X_Error_Code="RevisionNotFound")
        files = [{"rfilename": name} for name in REPOSITORIES[repo]]
        told = {"id": repo, "sha": sha_of(repo), "private": PRIVATE[repo], "siblings": files}
        return self.answer(200, told)

    def tree(self, repo: str, rev: str) -> None:
        found = [
            {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": hashlib.sha1(data).hexdigest(),
            }
            for name, data in REPOSITORIES[repo].items()
        ]
        self.answer(200, found)

    def preupload(self, repo: str, rev: str) -> None:
        def mode(name: str) -> str:
            return "lfs" if name.endswith((".safetensors", ".onnx", ".pt")) else "regular"

        files = [
            {"path": of["path"], "uploadMode": mode(of["path"]), "shouldIgnore": False}
            for of in json.loads(self.body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, repo: str) -> None:
        host = self.headers["Host"]
        objects = [
            {**of, "actions": {"upload": {"href": f"http://{host}/lfs/{of['oid']}"}}}
            for of in json.loads(self.body)["objects"]
        ]
        told = {"transfer": "basic", "objects": objects}
        self.answer(200, told, Content_Type="application/vnd.git-lfs+json")

    def stored(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.answer(400)
        OBJECTS[oid] = self.body
        return self.answer(200)

    def commit(self, repo: str, rev: str) -> None:
        for line in self.body.splitlines():
            asked = json.loads(line)
            of = asked["value"]
            if asked["key"] == "file":
                REPOSITORIES[repo][of["path"]] = base64.b64decode(of["content"])
            elif asked["key"] == "lfsFile":
                REPOSITORIES[repo][of["path"]] = OBJECTS[of["oid"]]
            elif asked["key"] == "deletedFile":
                del REPOSITORIES[repo][of["path"]]
        COMMITS[repo] += 1
        url = f"http://{self.headers['Host']}/{repo}/commit/{sha_of(repo)}"
        self.answer(200, {"success": True, "commitOid": sha_of(repo), "commitUrl": url})

    def resolve(self, repo: str, rev: str, name: str) -> None:
        data = REPOSITORIES[repo].get(name)
        if rev not in ("main", sha_of(repo)):
            return self.answer(404, {}, X_Error_Code="RevisionNotFound")
        if data is None:
            return self.answer(404, {}, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        return self.answer(200, data, ETag=etag, X_Repo_Commit=sha_of(repo))


REPO, REV = r"(?P<repo>[^/]+/[^/]+)", r"(?P<rev>[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("GET", f"/api/models/{REPO}/revision/{REV}", Hub.info),
    ("GET", f"/api/models/{REPO}/tree/{REV}", Hub.tree),
    ("POST", f"/api/models/{REPO}/preupload/{REV}", Hub.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Hub.batch),
    ("POST", f"/api/models/{REPO}/commit/{REV}", Hub.commit),
    ("GET", f"/{REPO}/resolve/{REV}/(?P<name>.+)", Hub.resolve),
]

if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hub).serve_forever()
