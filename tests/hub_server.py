"""A small Hub on this machine, with the endpoints that publish, load and list use.

It keeps repositories in memory. For tests, `HubServer.sent` counts the bytes of every file that was
sent, `cut` drops connections midway, and `before_commit` lets another user commit first. The client
relies on the error codes, the 302 to a store for large files, the visibility in `create`, the
object ids in `preupload` and the 412 for a stale parent.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

_LARGE = (".safetensors", ".png", ".jpg", ".webp", ".gif")  # kept in the store


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def object_id(path: str, data: bytes) -> str:
    return sha256(data) if path.endswith(_LARGE) else git_sha1(data)


@dataclass
class Repository:
    """All commits of one repository, and who may see it."""

    id: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    summaries: list[str] = field(default_factory=list)
    changed: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")

    @property
    def head(self) -> str:
        return self.refs["main"]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.head]

    def commit(self, files: dict[str, bytes], summary: str) -> str:
        oid = hashlib.sha1(f"{self.id} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = files
        self.refs["main"] = oid
        self.summaries.append(summary)
        self.changed = datetime.now(UTC)
        return oid

    def add(self, files: dict[str, bytes], summary: str = "by hand") -> str:
        return self.commit({**self.files, **files}, summary)

    def tags(self) -> list[str]:
        card = front_matter(self.files.get("README.md", b"").decode())
        base, relation = card.get("base_model"), card.get("base_model_relation")
        tags = [card.get("library_name"), card.get("pipeline_tag"), *card.get("tags", [])]
        tags += [f"base_model:{base}", f"base_model:{relation}:{base}"] if base else []
        return [tag for tag in tags if tag]

    def info(self, oid: str, sizes: bool = False) -> dict[str, Any]:
        return {
            "_id": self.id,
            "id": self.id,
            "modelId": self.id,
            "sha": oid,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "tags": self.tags(),
            "lastModified": self.changed.isoformat().replace("+00:00", "Z"),
            "siblings": [
                {"rfilename": name, **(stated(name, data) if sizes else {})}
                for name, data in self.commits[oid].items()
            ],
            "downloads": 0,
            "likes": 0,
        }


def stated(path: str, data: bytes) -> dict[str, Any]:
    """What the Hub says about a file's content."""
    size = {"size": len(data), "blobId": git_sha1(data)}
    if not path.endswith(_LARGE):
        return size
    return {**size, "lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}}


def front_matter(text: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    return yaml.safe_load(match[1]) if match else {}


class HubServer:
    """Start it as a context manager; `endpoint` is its address.

    Attributes:
        users: token -> name.
        repositories: by "user/repo"; Spaces by "spaces/user/repo".
        collections: by slug, in the form of the answers.
        granted: names that a gated repository lets in.
        sent: bytes of each file that was sent, "user/repo/file" -> count.
        cut: "upload", "download" or "commit": connections to drop midway; "answer": drop the
            connection after the commit; "content": send large files with other bytes.
        faults: what is answered to the next requests, in turn; None for the correct answer.
        before_commit: called once, before the next commit is processed.
        listing: answered in place of the list of repositories.
        requests: every request, "GET /path".
    """

    def __init__(self) -> None:
        self.users = {"token-of-me": "me", "token-of-you": "you"}
        self.reset()
        self._socket = socket.create_server(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._store_endpoint = f"http://localhost:{port}"  # another host, like the real store
        config = uvicorn.Config(
            self._app(), log_level="critical", access_log=False, lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def __enter__(self) -> HubServer:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def reset(self) -> None:
        """Forget all repositories and requests."""
        self.granted: set[str] = set()
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.store: dict[str, bytes] = {}
        self.sent: Counter[str] = Counter()
        self.cut: set[str] = set()
        self.before_commit: Callable[[], object] | None = None
        self.listing: bytes | None = None
        self.requests: list[str] = []
        self.faults: list[Response | None] = []

    def create(self, repo_id: str, files: dict[str, bytes], **options: bool) -> Repository:
        repository = self.repositories[repo_id] = Repository(repo_id, **options)
        repository.add(files)
        return repository

    def _user(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.users.get(token)

    def _find(self, request: Request, repo_id: str, revision: str = "main") -> tuple[Any, str]:
        """The repository and a commit; raises `Refusal`."""
        user, repository = self._user(request), self.repositories.get(repo_id)
        if repository is None or (repository.private and user != owner_of(repo_id)):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        revision = unquote(revision)
        oid = repository.refs.get(revision, revision)
        if oid not in repository.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, oid

    def _may_write(self, request: Request, repo_id: str) -> None:
        if self._user(request) != owner_of(repo_id):
            raise Refusal(403, None, "You don't have the required permissions")

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            fault = self.faults.pop(0) if self.faults else None
            return await call_next(request) if fault is None else fault

        @app.exception_handler(Refusal)
        async def refuse(_: Request, refusal: Refusal) -> Response:
            return refusal.response()

        @app.get("/api/whoami-v2")
        async def whoami(request: Request) -> Any:
            if (user := self._user(request)) is None:
                raise Refusal(401, None, "Invalid username or password.")
            return {"type": "user", "name": user, "orgs": []}

        @app.post("/api/repos/create")
        async def create(request: Request) -> Any:
            asked, user = await request.json(), self._user(request)
            if user is None:
                raise Refusal(401, None, "Invalid username or password.")
            repo_id = f"{asked.get('organization') or user}/{asked['name']}"
            if asked.get("type") == "space":
                repo_id = f"spaces/{repo_id}"
            self._may_write(request, repo_id)
            url = f"{self.endpoint}/{repo_id}"
            if repo_id in self.repositories:
                return JSONResponse({"error": "You already created this", "url": url}, 409)
            private = asked.get("visibility") == "private"
            self.repositories[repo_id] = Repository(repo_id, private, sdk=asked.get("sdk"))
            return {"url": url}

        @app.delete("/api/repos/delete")
        async def delete(request: Request) -> Any:
            asked = await request.json()
            repository, _ = self._find(request, f"{asked['organization']}/{asked['name']}")
            self._may_write(request, repository.id)
            del self.repositories[repository.id]
            return {}

        @app.post("/api/collections")
        async def create_collection(request: Request) -> Any:
            asked = await request.json()
            if self._user(request) != asked["namespace"]:
                raise Refusal(403, None, "You don't have the required permissions")
            slug = f"{asked['namespace']}/{asked['title'].lower().replace(' ', '-')}-0123"
            if slug in self.collections:
                return JSONResponse({"error": "It exists", "slug": slug}, 409)
            self.collections[slug] = {
                "slug": slug, "title": asked["title"], "owner": {"name": asked["namespace"]},
                "items": [], "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0,
                "private": asked["private"], "theme": "blue", "upvotes": 0,
                "description": asked.get("description"),
            }  # fmt: skip
            return self.collections[slug]

        @app.get("/api/collections/{user}/{name}")
        async def collection(user: str, name: str) -> Any:
            return self.collections[f"{user}/{name}"]

        @app.post("/api/collections/{user}/{name}/items")
        async def add_item(request: Request, user: str, name: str) -> Any:
            asked, found = await request.json(), self.collections[f"{user}/{name}"]
            item, note = asked["item"], asked.get("note")
            if item["id"] in [known["id"] for known in found["items"]]:
                return JSONResponse({"error": "It is in the collection"}, 409)
            self._find(request, item["id"])
            place = len(found["items"])
            entry = {"_id": str(place), **item, "position": place, "note": {"text": note}}
            found["items"].append(entry)
            return found

        @app.post("/api/validate-yaml")
        async def validate_yaml(request: Request) -> Any:
            text, errors = (await request.json())["content"], []
            try:
                base = front_matter(text).get("base_model", "user/repo")
                if not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
                    errors = [f'"base_model" with value "{base}" is not valid. Use a model id.']
            except yaml.YAMLError as error:
                errors = [str(error)]
            found = {"errors": [{"message": text} for text in errors], "warnings": []}
            return JSONResponse(found, 400 if errors else 200)

        @app.post("/api/{kind}/{user}/{name}/preupload/{revision}")
        async def preupload(
            request: Request, kind: str, user: str, name: str, revision: str
        ) -> Any:
            repository, oid = self._find(request, key(kind, user, name), revision)
            self._may_write(request, repository.id)
            files = []
            for file in (await request.json())["files"]:
                path, old = file["path"], repository.commits[oid].get(file["path"])
                mode = "lfs" if path.endswith(_LARGE) else "regular"
                known = {} if old is None else {"oid": object_id(path, old)}
                files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
            return {"files": files}

        @app.post("/{repo:path}.git/info/lfs/objects/batch")
        async def lfs_batch(request: Request, repo: str) -> Any:
            repository, _ = self._find(request, repo)
            self._may_write(request, repository.id)
            objects = []
            for item in (await request.json())["objects"]:
                actions = {
                    "upload": {"href": f"{self._store_endpoint}/store/{item['oid']}"},
                    "verify": {"href": f"{self._store_endpoint}/store/{item['oid']}/verify"},
                }
                objects.append(item if item["oid"] in self.store else {**item, "actions": actions})
            return {"transfer": "basic", "objects": objects}

        @app.put("/store/{oid}")
        async def upload(request: Request, oid: str) -> Response:
            received = b""
            async for part in request.stream():
                received += part
                if "upload" in self.cut:
                    return broken(b"", 10)
            if sha256(received) != oid:
                raise Refusal(400, None, "The content is not what was announced")
            self.store[oid] = received
            return Response()

        @app.post("/store/{oid}/verify")
        async def verify(request: Request, oid: str) -> Any:
            if len(self.store.get(oid, b"")) != (await request.json())["size"]:
                raise Refusal(404, None, "Nothing was uploaded")
            return {}

        @app.post("/api/{kind}/{user}/{name}/commit/{revision}")
        async def commit(request: Request, kind: str, user: str, name: str, revision: str) -> Any:
            lines = [json.loads(line) for line in (await request.body()).splitlines()]
            if "commit" in self.cut:
                return broken(b"", 10)
            hook, self.before_commit = self.before_commit, None
            if hook is not None:
                hook()
            repository, oid = self._find(request, key(kind, user, name), revision)
            self._may_write(request, repository.id)
            files, summary = dict(repository.commits[oid]), ""
            for line in lines:
                value = line["value"]
                match line["key"]:
                    case "header":
                        summary = value["summary"]
                        if value.get("parentCommit", oid) != oid:
                            why = "A commit has happened since. Please refresh and try again."
                            raise Refusal(412, None, why)
                    case "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    case "lfsFile":
                        if value["oid"] not in self.store:
                            raise Refusal(400, None, "A pointer to nothing")
                        files[value["path"]] = self.store[value["oid"]]
                    case "deletedFile":
                        del files[value["path"]]
            new = repository.commit(files, summary)
            if "answer" in self.cut:
                self.cut.remove("answer")
                return broken(b"", 10)
            url = f"{self.endpoint}/{repository.id}/commit/{new}"
            return {"success": True, "commitOid": new, "commitUrl": url}

        @app.api_route("/api/models", methods=["GET", "HEAD"])
        async def models(request: Request) -> Any:
            if self.listing is not None and request.method == "GET":
                return Response(self.listing)
            asked = request.query_params
            wanted, user = set(asked.getlist("filter")), self._user(request)
            found = [
                repository.info(repository.head)
                for repository in reversed(self.repositories.values())
                if wanted <= set(repository.tags())
                and (not repository.private or user == repository.id.split("/")[0])
                and asked.get("search", "").lower() in repository.id.lower()
                and asked.get("author") in (None, repository.id.split("/")[0])
            ]
            return found[: int(asked.get("limit", 1000))]

        @app.get("/api/{kind}/{user}/{name}")
        async def model(request: Request, kind: str, user: str, name: str) -> Any:
            repository, oid = self._find(request, key(kind, user, name))
            return repository.info(oid, "blobs" in request.query_params)

        @app.get("/api/{kind}/{user}/{name}/revision/{revision:path}")
        async def model_at(request: Request, kind: str, user: str, name: str, revision: str) -> Any:
            repository, oid = self._find(request, key(kind, user, name), revision)
            return repository.info(oid, "blobs" in request.query_params)

        @app.get("/api/{kind}/{user}/{name}/tree/{revision:path}")
        async def tree(request: Request, kind: str, user: str, name: str, revision: str) -> Any:
            repository, oid = self._find(request, key(kind, user, name), revision)
            entries = []
            for path, data in repository.commits[oid].items():
                entry = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
                if path.endswith(_LARGE):
                    entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
                entries.append(entry)
            return entries

        @app.api_route("/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
        async def resolve(request: Request, user: str, name: str, revision: str, path: str) -> Any:
            repository, oid = self._find(request, f"{user}/{name}", revision)
            headers = {"X-Repo-Commit": oid}
            if repository.gated and self._user(request) not in {user, *self.granted}:
                raise Refusal(403, "GatedRepo", "Access to this repository is restricted")
            if (data := repository.commits[oid].get(path)) is None:
                raise Refusal(404, "EntryNotFound", "Entry not found", headers)
            headers["ETag"] = f'"{object_id(path, data)}"'
            if not path.endswith(_LARGE):
                return self._file(request, data, f"{user}/{name}/{path}", headers)
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
            self.store[sha256(data)] = data
            address = f"{self._store_endpoint}/store/{sha256(data)}/{user}/{name}/{path}"
            return RedirectResponse(address, 302, headers)

        @app.api_route("/store/{oid}/{name:path}", methods=["GET", "HEAD"])
        async def stored(request: Request, oid: str, name: str) -> Response:
            data = self.store[oid]
            if "content" in self.cut:
                data = data[:-4] + b"\0\0\0?"
            return self._file(request, data, name, {"ETag": f'"{oid}"'})

        return app

    def _file(self, request: Request, data: bytes, name: str, headers: dict[str, str]) -> Response:
        status, total = 200, len(data)
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            start = int(span[1])
            data = data[start : int(span[2]) + 1 if span[2] else None]
            headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{total}"
            status = 206
        if request.method == "GET" and "download" in self.cut and name.endswith(_LARGE):
            return broken(data[: len(data) // 2], len(data), status, headers)
        if request.method == "GET":
            self.sent[name] += len(data)
        return Response(data, status, headers, media_type="application/octet-stream")


def key(kind: str, user: str, name: str) -> str:
    """The key of a repository; its address says "models" or "spaces"."""
    return f"{'spaces/' if kind == 'spaces' else ''}{user}/{name}"


def owner_of(repo_id: str) -> str:
    return repo_id.removeprefix("spaces/").split("/")[0]


def broken(
    part: bytes, length: int, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer that ends too early."""

    async def body() -> AsyncIterator[bytes]:
        yield part
        raise ConnectionError("cut")

    return StreamingResponse(body(), status, {**(headers or {}), "Content-Length": str(length)})


class Refusal(Exception):
    """An error as the Hub reports it: status, code in a header, message."""

    def __init__(
        self, status: int, code: str | None, why: str, headers: dict[str, str] | None = None
    ) -> None:
        self.status, self.why = status, why
        self.headers = {"X-Error-Message": why, **(headers or {})}
        if code is not None:
            self.headers["X-Error-Code"] = code

    def response(self) -> Response:
        return JSONResponse({"error": self.why}, self.status, self.headers)


if __name__ == "__main__":  # a Hub to try publishing with; it forgets everything when it ends
    with HubServer() as hub:
        print(f"export HF_ENDPOINT={hub.endpoint} HF_TOKEN=token-of-me HF_HUB_DISABLE_XET=1")
        print("You are the user `me`. Ctrl-C ends this Hub.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
