"""The REST side of the stand-in: the Files API and the tokens of service principals, in Databricks' form.

- ``PUT /api/2.0/fs/directories/Volumes/…`` makes a folder with its parents (204); ``GET`` lists one, in pages.
- ``PUT /api/2.0/fs/files/Volumes/…?overwrite=true`` takes the raw bytes (204; 409 for a file that is there
  without ``overwrite``). It appears when all bytes are there. Stricter than Databricks: a missing folder is a 404.
- ``GET`` answers with the bytes and Last-Modified, or with a Range of them (206); ``DELETE`` removes (204).
- ``GET /api/2.0/sql/warehouses/ID`` describes the warehouse.
- Errors are JSON with ``error_code`` and ``message``.
- ``GET /.well-known/databricks-config`` and ``/oidc/.well-known/oauth-authorization-server`` say where tokens
  are to be had; ``POST /oidc/v1/token`` gives one for ``grant_type=client_credentials`` with the id and the
  secret in a Basic header.

Files move in pieces, so that a test may measure the memory of the client; the server's does not grow either.
"""

import base64
import email.utils
import json
import os
import re
import time
import urllib.parse
import uuid

PIECE = 1 << 20
#: Entries of a folder in one answer; Databricks has 1000.
PAGE = 3


class WorkspaceApi:
    """Handlers for `BaseHTTPRequestHandler`; `serve_api` says whether the request was one of theirs."""

    def serve_api(self):
        path = urllib.parse.urlsplit(self.path).path
        if path == "/oidc/v1/token":
            self.give_token()
        elif path == "/.well-known/databricks-config":
            self.answer_json(
                200, {"oidc_endpoint": f"{self.base}/oidc", "account_id": "a", "workspace_id": "1"}
            )
        elif path == "/oidc/.well-known/oauth-authorization-server":
            self.answer_json(
                200,
                {
                    "authorization_endpoint": f"{self.base}/oidc/v1/authorize",
                    "token_endpoint": f"{self.base}/oidc/v1/token",
                },
            )
        elif match := re.fullmatch(r"/api/2\.0/sql/warehouses/(\w+)", path):
            self.describe_warehouse(match[1])
        elif match := re.fullmatch(r"/api/2\.0/fs/(files|directories)(/Volumes/.+)", path):
            self.serve_volume(match[1], urllib.parse.unquote(match[2]))
        else:
            return False
        return True

    @property
    def base(self):
        return self.server.base

    def answer_json(self, status, content, headers=()):
        body = json.dumps(content).encode()
        self.answer(status, body, {"Content-Type": "application/json", **dict(headers)})

    def answer_error(self, status, code, message, headers=()):
        self.answer_json(status, {"error_code": code, "message": message}, headers)

    def describe_warehouse(self, name):
        if not self.is_authorized():
            return self.answer_error(401, "401", "Invalid access token.")
        said = {"id": name, "name": "stand-in", "state": "RUNNING", "warehouse_type": "PRO"}
        return self.answer_json(200, said | {"enable_serverless_compute": False})

    def drain(self):
        """Read what the client sends, as a front end does before it answers."""
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(PIECE, left))):
            left -= len(piece)

    def is_authorized(self):
        said = self.headers.get("Authorization", "")
        warehouse = self.server.warehouse
        issued = warehouse.issued.get(said.removeprefix("Bearer "), 0)
        return said == f"Bearer {warehouse.faults['token']}" or issued > time.time()

    def give_token(self):
        warehouse, form = self.server.warehouse, urllib.parse.parse_qs(self.body().decode())
        pair = base64.b64encode(":".join(warehouse.faults["client"]).encode()).decode()
        if self.headers.get("Authorization") != f"Basic {pair}":
            said = {"error": "invalid_client", "error_description": "Client authentication failed"}
            return self.answer_json(401, said)
        if form.get("grant_type") != ["client_credentials"] or form.get("scope") != ["all-apis"]:
            return self.answer_json(400, {"error": "invalid_request", "error_description": ""})
        token, seconds = uuid.uuid4().hex, warehouse.faults["token_seconds"]
        warehouse.issued[token] = time.time() + seconds + warehouse.faults["grace_seconds"]
        said = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
        return self.answer_json(200, said)

    def serve_volume(self, kind, path):
        warehouse = self.server.warehouse
        warehouse.requests.append(f"{self.command} {kind} {path}")
        if not self.is_authorized():
            self.drain()
            return self.answer_error(401, "401", "Invalid access token.")
        if warehouse.faults["fail_files"] and kind == "files":
            status, headers = warehouse.faults["fail_files"].pop(0)
            self.drain()
            return self.answer_error(status, "TEMPORARILY_UNAVAILABLE", "Busy.", headers)
        try:
            place = warehouse.in_volume(path)
        except Exception as error:
            self.drain()
            return self.answer_error(404, "NOT_FOUND", str(error))
        if kind == "directories" and self.command == "GET":
            return self.list_folder(path, place)
        if kind == "directories":
            self.drain()
            os.makedirs(place, exist_ok=True)
            return self.answer(204)
        return getattr(self, f"{self.command.lower()}_file")(place)

    def list_folder(self, path, place):
        if not os.path.isdir(place):
            return self.answer_error(404, "NOT_FOUND", "The directory being accessed is not found.")
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        start = int(query.get("page_token", ["0"])[0])
        entries = sorted(os.scandir(place), key=lambda e: e.name)
        contents = [
            {
                "path": f"{path.rstrip('/')}/{entry.name}",
                "name": entry.name,
                "is_directory": entry.is_dir(),
                "file_size": entry.stat().st_size,
                "last_modified": int(entry.stat().st_mtime * 1000),
            }
            for entry in entries[start : start + PAGE]
        ]
        page = {"contents": contents}
        if start + PAGE < len(entries):
            page["next_page_token"] = str(start + PAGE)
        return self.answer_json(200, page)

    def put_file(self, place):
        length = int(self.headers["Content-Length"])
        if self.server.warehouse.take("cut_put"):
            self.rfile.read(length // 2)
            return self.hang_up()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        part = f"{place}.{uuid.uuid4().hex}.part"
        if not os.path.isdir(os.path.dirname(place)):
            self.drain()
            return self.answer_error(404, "NOT_FOUND", "The parent directory does not exist.")
        if os.path.exists(place) and query.get("overwrite") != ["true"]:
            self.drain()
            return self.answer_error(
                409, "ALREADY_EXISTS", "The file being created already exists."
            )
        with open(part, "wb") as file:
            while length and (piece := self.rfile.read(min(PIECE, length))):
                file.write(piece)
                length -= len(piece)
        if length:
            os.unlink(part)
            return self.hang_up()
        os.replace(part, place)
        return self.answer(204)

    def get_file(self, place):
        if not os.path.isfile(place):
            self.answer_error(404, "NOT_FOUND", "The file being accessed is not found.")
            return
        size = os.path.getsize(place)
        changed = email.utils.formatdate(os.path.getmtime(place), usegmt=True)
        start, status = 0, 200
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and self.headers.get("If-Range", changed) == changed:
            start, status = int(span[1]), 206
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size - start))
        self.send_header("Last-Modified", changed)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        end = start + (size - start) // 2 if self.server.warehouse.take("cut_get") else size
        with open(place, "rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(PIECE, end - start))):
                self.wfile.write(piece)
                start += len(piece)
        if end < size:
            self.wfile.flush()
            self.hang_up()

    def delete_file(self, place):
        if not os.path.isfile(place):
            return self.answer_error(404, "NOT_FOUND", "The file being accessed is not found.")
        os.unlink(place)
        return self.answer(204)
