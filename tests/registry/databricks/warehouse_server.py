"""A local stand-in for a Databricks SQL warehouse, in a process of its own.

``python warehouse_server.py FOLDER [CERTIFICATE KEY]`` prints its port, and that of the same with TLS. Clients speak the real protocol to it (TCLIService, Thrift binary over HTTP, with
Arrow results, and presigned addresses for volumes). Statements run on Sail, an engine of the Spark
dialect with real Delta tables. What Sail does not have is done here, and these are the limits:

- catalogs, CREATE VOLUME, PUT, GET, LIST, REMOVE, SET TAGS and COMMENT are served by this file; tags
  are remembered (`information_schema` has them), there are no permissions; the catalog, which is main or ends in -catalog, is cut off names of tables;
- parameters of INSERT, UPDATE, DELETE and MERGE are written into the statement as literals, by a
  scanner that knows quotes and comments; of SELECT they are passed on as parameters;
- CLUSTER BY is removed, tables become USING DELTA with a location below the root and are never
  checkpointed;
- a commit that Sail could not make ("Failed to commit transaction") is reported as Databricks
  does, DELTA_CONCURRENT_APPEND with SQLSTATE 2D521; which statements conflict is up to Sail, except in a
  ``race``, where it is what Databricks documents (`row_concurrency`);
- more than 256 parameters are refused, and FLOAT is one of 32 bits, as with Databricks;
- results come in one piece, without LZ4 and cloud fetch.

The Files API and the tokens of service principals are in `workspace_api`.

POST /control sets faults as JSON: ``fail`` (list of [status, headers] for the next requests),
``conflicts`` (how many changes are refused), ``race`` (schema, table and number of changes that begin together), ``starting``
(how many statements a warehouse rejects that accepted the session), ``deny`` (which statements lack a privilege), ``forget_sessions``, ``cloud`` (aws, azure or gcp: in whose words
files are missing), ``list_prefix`` (what LIST sets before paths), ``lose`` (how many changes are done and their answer
lost), ``cut`` (how many PUTs to presigned addresses are cut off in the middle), ``cut_put``, ``cut_get`` and
``fail_files`` (the same of the Files API), ``deny_tags``, ``token``, ``client`` (id and secret), ``token_seconds`` (how long an
issued token is said to be good), ``grace_seconds`` (how long it is longer), ``forget_tokens``, and
for tests, ``keep`` and ``reset`` (a schema and a mark). GET /control returns statements,
tags, the requests to the Files API, the tokens that were issued, the statements that conflicted and how many
parameters a statement had at the most.
"""

import datetime as dt
import decimal
import json
import os
import re
import shutil
import socket
import ssl
import struct
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import row_concurrency
from databricks.sql.thrift_api.TCLIService import TCLIService
from databricks.sql.thrift_api.TCLIService import ttypes as T
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer
from workspace_api import WorkspaceApi

OK = T.TStatus(T.TStatusCode.SUCCESS_STATUS)
EMPTY = pa.table({"result": pa.array([], pa.string())})
CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
TYPES = [
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int32, "INT"),
    (pa.types.is_integer, "BIGINT"),
    (pa.types.is_floating, "DOUBLE"),
    (pa.types.is_timestamp, "TIMESTAMP"),
    (pa.types.is_list, "ARRAY"),
    (pa.types.is_struct, "STRUCT"),
    (pa.types.is_null, "NULL"),
]
#: How a presigned address of each cloud answers for an object that is not there.
MISSING = {
    "aws": "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>",
    "azure": "<Error><Code>BlobNotFound</Code><Message>The specified blob does not exist.</Message></Error>",
    "gcp": "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
    "<Details>No such object: bucket/key</Details></Error>",
}
READ_TAGS = (
    r"SELECT tag_name, tag_value FROM `([^`]+)`\.information_schema\.(table|volume)_tags "
    r"WHERE schema_name = :schema AND \2_name = :name"
)
#: Quoted texts and comments are passed over; what is left are markers.
MARKERS = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`[^`]*`|--[^\n]*|/\*.*?\*/|(?<![:\w]):[A-Za-z_]\w*""",
    re.DOTALL,
)


class SqlError(Exception):
    def __init__(self, name, message, state):
        super().__init__(f"[{name}] {message} SQLSTATE: {state}")
        self.state = state


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"
    if isinstance(value, int):
        return f"{value}L"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def inlined(statement, parameters):
    def one(match):
        text = match[0]
        return literal(parameters[text[1:]]) if text[0] == ":" else text

    return MARKERS.sub(one, statement)


class Engine:
    """Sail, started here, and the Delta tables below the root."""

    def __init__(self, root):
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        self.root = root
        self._server = SparkConnectServer(ip="127.0.0.1", port=0)
        self._server.start(background=True)
        port = self._server.listening_address[1]
        self._session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()

    literal = staticmethod(literal)

    def execute(self, statement):
        return self._session.sql(statement).toArrow()

    def run(self, statement, parameters):
        made = re.match(
            r"\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?([-\w.`]+)", statement, re.IGNORECASE
        )
        if made:
            statement = re.sub(
                r"\bCLUSTER\s+BY\s*\([^)]*\)", "", statement, flags=re.IGNORECASE
            ).rstrip()
            # Sail merges into no table whose folder has other letters.
            folder = re.sub("[^ -~]", "_", made[1].replace("`", "").replace(".", "/"))
            statement += f" USING DELTA LOCATION '{self.root}/tables/{folder}'"
            # Sail 0.7.2 cannot read a version when the checkpoint of a later one is there already,
            # so a change that another one overtakes fails with "Missing commit file".
            statement += " TBLPROPERTIES ('delta.checkpointInterval' = '1000000')"
        statement = re.sub(r"`?\bmain\b`?\.|`[^`]*-catalog`\.", "", statement)
        changes = CHANGES.match(statement)
        if changes:
            statement, parameters = inlined(statement, parameters), None
        table = self._session.sql(statement, args=parameters or None).toArrow()
        return table, table.column(0)[0].as_py() if changes and table.num_rows else None


class Warehouse(TCLIService.Iface):
    """The service: sessions, statements, results, and what is Unity Catalog's."""

    def __init__(self, root):
        self.root = root
        self.here = threading.local()  # the address that a request came to
        self.race, self.conflicted, self.most_parameters = None, [], 0
        self.engine = Engine(root)
        self.sessions, self.operations, self.presigned = set(), {}, {}
        self.volumes, self.tags, self.statements = set(), {}, []
        self.issued, self.requests = {}, []
        self.faults = dict.fromkeys(("conflicts", "lose", "cut", "cut_put", "cut_get"), 0)
        self.faults |= {"deny": "", "starting": 0, "cloud": "aws", "list_prefix": ""}
        self.faults |= {"fail": [], "fail_files": [], "deny_tags": False, "token": "dapi-test"}
        self.faults |= {
            "client": ["client", "dose-secret"],
            "token_seconds": 3600,
            "grace_seconds": 0,
        }
        self.mutex = threading.Lock()

    def take(self, fault):
        with self.mutex:
            if not self.faults[fault]:
                return False
            self.faults[fault] -= 1
            return True

    def OpenSession(self, req):
        made = T.TSessionHandle(T.THandleIdentifier(uuid.uuid4().bytes, uuid.uuid4().bytes))
        made.serverProtocolVersion = T.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7
        self.sessions.add(made.sessionId.guid)
        return T.TOpenSessionResp(
            status=OK,
            serverProtocolVersion=made.serverProtocolVersion,
            sessionHandle=made,
            configuration={},
            initialNamespace=req.initialNamespace,
            canUseMultipleCatalogs=True,
        )

    def CloseSession(self, req):
        self.sessions.discard(req.sessionHandle.sessionId.guid)
        return T.TCloseSessionResp(status=OK)

    def ExecuteStatement(self, req):
        if req.sessionHandle.sessionId.guid not in self.sessions:
            bad = T.TStatus(
                T.TStatusCode.INVALID_HANDLE_STATUS, errorMessage="Invalid SessionHandle"
            )
            return T.TExecuteStatementResp(status=bad)
        if self.take("starting"):
            guid = uuid.UUID(bytes=req.sessionHandle.sessionId.guid)
            said = f"requirement failed: Session handle: SessionHandle [{guid}] has not been initialized or had already closed."
            bad = T.TStatus(T.TStatusCode.ERROR_STATUS, errorMessage=said)
            return T.TExecuteStatementResp(status=bad)
        handle = T.TOperationHandle(
            operationId=T.THandleIdentifier(uuid.uuid4().bytes, b"s" * 16),
            operationType=T.TOperationType.EXECUTE_STATEMENT,
            hasResultSet=True,
        )
        try:
            parameters = self.checked(req.parameters or [])
            table, changed, staging = self.execute(req.statement, parameters)
        except Exception as error:
            said = str(error) if isinstance(error, SqlError) else f"{type(error).__name__}: {error}"
            status = T.TGetOperationStatusResp(
                status=OK,
                operationState=T.TOperationState.ERROR_STATE,
                sqlState=getattr(error, "state", "HY000"),
                errorMessage=said,
                displayMessage=said,
                diagnosticInfo="",
            )
            direct = T.TSparkDirectResults(operationStatus=status)
            return T.TExecuteStatementResp(status=OK, operationHandle=handle, directResults=direct)
        status = T.TGetOperationStatusResp(
            status=OK,
            operationState=T.TOperationState.FINISHED_STATE,
            hasResultSet=True,
            numModifiedRows=changed,
        )
        direct = T.TSparkDirectResults(
            operationStatus=status,
            resultSetMetadata=self.metadata(table, staging),
            resultSet=self.rows(table),
            closeOperation=T.TCloseOperationResp(status=OK),  # all of it is here
        )
        return T.TExecuteStatementResp(status=OK, operationHandle=handle, directResults=direct)

    def CloseOperation(self, req):
        return T.TCloseOperationResp(status=OK)

    def CancelOperation(self, req):
        return T.TCancelOperationResp(status=OK)

    def checked(self, parameters):
        count = len(parameters)
        self.most_parameters = max(self.most_parameters, count)
        if count > 256:
            said = f"{count} parameters were given but the limit is 256."
            raise SqlError(
                "BAD_REQUEST", f"Parameterized query has too many parameters: {said}", ""
            )
        return {p.name: self.value(p) for p in parameters}

    @staticmethod
    def value(parameter):
        text = parameter.value.stringValue if parameter.value else None
        if text is None:
            return None
        kind = parameter.type.upper().split("(")[0]
        reads = {
            **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), int),
            "FLOAT": lambda said: struct.unpack("f", struct.pack("f", float(said)))[0],
            "DOUBLE": float,
            "BOOLEAN": lambda said: said.lower() == "true",
            "DECIMAL": decimal.Decimal,
            "TIMESTAMP": dt.datetime.fromisoformat,
        }
        return reads.get(kind, str)(text)

    @staticmethod
    def metadata(table, staging):
        columns = []
        for place, field in enumerate(table.schema, 1):
            name = next((n for fits, n in TYPES if fits(field.type)), "STRING")
            entry = T.TPrimitiveTypeEntry(getattr(T.TTypeId, f"{name}_TYPE"))
            columns.append(T.TColumnDesc(field.name, T.TTypeDesc([T.TTypeEntry(entry)]), place, ""))
        return T.TGetResultSetMetadataResp(
            status=OK,
            schema=T.TTableSchema(columns),
            resultFormat=T.TSparkRowSetType.ARROW_BASED_SET,
            lz4Compressed=False,
            arrowSchema=table.schema.serialize().to_pybytes(),
            isStagingOperation=staging,
        )

    @staticmethod
    def rows(table):
        batches = [
            T.TSparkArrowBatch(b.serialize().to_pybytes(), b.num_rows)
            for b in table.combine_chunks().to_batches()
        ]
        found = T.TRowSet(0, [], arrowBatches=batches)
        return T.TFetchResultsResp(status=OK, hasMoreRows=False, results=found)

    def execute(self, statement, parameters):
        """Return the result, how many rows were changed, and whether the client moves a file."""
        self.statements.append(statement)
        text = statement.strip().rstrip(";")
        if self.faults["deny"] and re.match(self.faults["deny"], text, re.IGNORECASE):
            raise SqlError("INSUFFICIENT_PERMISSIONS", "User does not have permission.", "42501")
        for pattern, serve in self.SERVED:
            if match := re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL):
                return serve(self, match, **parameters)
        changes = CHANGES.match(text)
        if changes and self.take("conflicts"):
            raise SqlError(
                "DELTA_CONCURRENT_APPEND", "Files were added by a concurrent update.", "2D521"
            )
        try:
            race = self.race
            if changes and race is not None and race.joins(text):
                return *race.run(text, parameters, self.conflict), False
            return *self.engine.run(text, parameters), False
        except SqlError:
            raise
        except Exception as error:
            if re.search(r"conflict|failed to commit|concurrent", str(error), re.IGNORECASE):
                raise SqlError("DELTA_CONCURRENT_APPEND", str(error), "2D521") from error
            raise

    def conflict(self, said):
        self.conflicted.append(said)
        return SqlError("DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES", said, "2D521")

    # Schemas that tests use one after another: Delta tables are their folders

    def keep(self, schema, mark):
        """Remember under a mark what a schema and its volumes are now."""
        for kind in ("tables", "Volumes"):
            kept = f"{self.root}/kept/{schema}/{mark}/{kind}"
            shutil.copytree(f"{self.root}/{kind}/main/{schema}", kept)

    def reset(self, schema, mark):
        """Let a schema be what it was when it was kept, without tags."""
        for kind in ("tables", "Volumes"):
            folder = f"{self.root}/{kind}/main/{schema}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(f"{self.root}/kept/{schema}/{mark}/{kind}", folder)
        gone = [name for name in self.tags if name.split(".")[1] == schema]
        for name in gone:
            del self.tags[name]

    # What the engine does not know

    def in_volume(self, path):
        match = re.fullmatch(r"/Volumes/([-\w]+)/([-\w]+)/(\w+)(/.*)?", path)
        if not match or ".." in path.split("/"):
            raise SqlError("VOLUME_PATH_INVALID", path, "22000")
        if ".".join(match.group(1, 2, 3)) not in self.volumes:
            raise SqlError("VOLUME_NOT_FOUND", f"Volume '{path}' does not exist.", "42704")
        return self.root + path

    def moves(self, operation, method, path, local):
        key = uuid.uuid4().hex
        self.presigned[key] = (method, path)
        columns = {
            "operation": [operation],
            "presignedUrl": [f"{self.here.base}/presigned/{key}"],
            "headers": ["{}"],
            "localFile": pa.array([local], pa.string()),
        }
        return pa.table(columns), None, True

    def put(self, match):
        path = self.in_volume(match[2])
        if os.path.exists(path) and not match[3]:
            raise SqlError("RESOURCE_ALREADY_EXISTS", match[2], "42P07")
        return self.moves("PUT", "PUT", path, match[1])

    def get(self, match):
        path = self.in_volume(match[1])
        return self.moves("GET", "GET", path, match[2])

    def remove(self, match):
        return self.moves("REMOVE", "DELETE", self.in_volume(match[1]), None)

    def listing(self, match):
        path = self.in_volume(match[1])
        there = sorted(os.scandir(path), key=lambda e: e.name) if os.path.isdir(path) else []
        folders = [e.is_dir() for e in there]
        base = self.faults["list_prefix"] + match[1].rstrip("/")
        names = [e.name + "/" * d for e, d in zip(there, folders, strict=True)]
        columns = {
            "path": pa.array([f"{base}/{n}" for n in names], pa.string()),
            "name": pa.array(names, pa.string()),
            "size": pa.array([0 if e.is_dir() else e.stat().st_size for e in there], pa.int64()),
        }
        return pa.table(columns), None, False

    def create_volume(self, match):
        name = match[1].replace("`", "")
        self.volumes.add(name)
        os.makedirs(f"{self.root}/Volumes/{name.replace('.', '/')}", exist_ok=True)
        return EMPTY, None, False

    def set_tags(self, match):
        if self.faults["deny_tags"]:
            raise SqlError("PERMISSION_DENIED", "User does not have APPLY TAG.", "42501")
        texts = r"'[^'\\\\]*'"
        pair = rf"\s*({texts})\s*" + (rf"=\s*({texts})\s*" if match[2] == "SET" else "")
        if not re.fullmatch(f"{pair}(,{pair})*", match[3]):
            raise SqlError("PARSE_SYNTAX_ERROR", match[3], "42601")
        said = [text[1:-1] for text in re.findall(texts, match[3])]
        there = self.tags.setdefault(match[1].replace("`", ""), {})
        if match[2] == "SET":
            there.update(zip(said[::2], said[1::2], strict=True))
        else:
            for key in said:
                there.pop(key, None)
        return EMPTY, None, False

    def read_tags(self, match, schema, name):
        there = self.tags.get(f"{match[1]}.{schema}.{name}", {})
        columns = {"tag_name": list(there), "tag_value": list(there.values())}
        return pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}), None, False

    def version(self, match):
        kind = pa.struct([("dbr_version", pa.string()), ("dbsql_version", pa.string())])
        found = {"dbr_version": None, "dbsql_version": "stand-in"}
        return pa.table({"version": pa.array([found], kind)}), None, False

    def drop_volume(self, match):
        name = match[1].replace("`", "")
        self.volumes.discard(name)
        shutil.rmtree(f"{self.root}/Volumes/{name.replace('.', '/')}")
        return EMPTY, None, False

    SERVED = (
        (r"DROP\s+VOLUME\s+([-\w.`]+)", drop_volume),
        (r"SELECT current_version\(\) AS version", version),
        (r"PUT\s+'([^']+)'\s+INTO\s+'([^']+)'(\s+OVERWRITE)?", put),
        (r"GET\s+'([^']+)'\s+TO\s+'([^']+)'", get),
        (r"REMOVE\s+'([^']+)'", remove),
        (r"LIST\s+'([^']+)'", listing),
        (r"CREATE\s+VOLUME\s+(?:IF\s+NOT\s+EXISTS\s+)?([-\w.`]+)", create_volume),
        (r"ALTER\s+(?:TABLE|SCHEMA|VOLUME)\s+([-\w.`]+)\s+(SET|UNSET)\s+TAGS\s*\((.*)\)", set_tags),
        (READ_TAGS, read_tags),
    )


class Requests(WorkspaceApi, BaseHTTPRequestHandler):
    """HTTP: Thrift by POST, presigned files by GET, PUT and DELETE, and /control."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: otherwise each waits for a delayed acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, status, data=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_POST(self):
        if self.serve_api():
            return None
        warehouse, body = self.server.warehouse, self.body()
        if self.path == "/control":
            warehouse.faults.update(json.loads(body))
            if warehouse.faults.pop("forget_sessions", False):
                warehouse.sessions.clear()
            if race := warehouse.faults.pop("race", None):
                warehouse.race = row_concurrency.Race(warehouse.engine, warehouse.root, *race)
                warehouse.conflicted.clear()
            if warehouse.faults.pop("forget_tokens", False):
                warehouse.issued = dict.fromkeys(warehouse.issued, 0)
            for action in ("keep", "reset"):
                if asked := warehouse.faults.pop(action, None):
                    getattr(warehouse, action)(*asked)
            return self.answer(200)
        if not self.is_authorized():
            said = {"X-Databricks-Reason-Phrase": "Invalid access token"}
            return self.answer(401, b"", said)
        if warehouse.faults["fail"]:
            status, headers = warehouse.faults["fail"].pop(0)
            return self.answer(status, b"", headers)
        output = TMemoryBuffer()
        warehouse.here.base = self.base
        before = len(warehouse.statements)
        self.server.processor.process(TBinaryProtocol(TMemoryBuffer(body)), TBinaryProtocol(output))
        is_change = any(map(CHANGES.match, warehouse.statements[before:]))
        if is_change and warehouse.take("lose"):
            return self.hang_up()
        return self.answer(200, output.getvalue(), {"Content-Type": "application/x-thrift"})

    def do_GET(self):
        if self.path == "/control":
            warehouse = self.server.warehouse
            said = {"statements": warehouse.statements, "tags": warehouse.tags}
            said |= {"requests": warehouse.requests, "issued": list(warehouse.issued)}
            said |= {"conflicted": warehouse.conflicted, "parameters": warehouse.most_parameters}
            said |= {
                "fail": len(warehouse.faults["fail"]),
                "starting": warehouse.faults["starting"],
            }
            return self.answer_json(200, said)
        return self.presigned()

    def do_PUT(self):
        return self.presigned()

    def do_DELETE(self):
        return self.presigned()

    def presigned(self):
        if self.serve_api():
            return None
        warehouse = self.server.warehouse
        key = self.path.rsplit("/", 1)[-1]
        method, path = warehouse.presigned.get(key, (None, None))
        if method == "PUT" and warehouse.take("cut"):
            self.rfile.read(1)
            return self.hang_up()
        body = self.body()
        if method != self.command:
            return self.answer(403, b"SignatureDoesNotMatch")
        if method == "PUT":
            os.makedirs(os.path.dirname(path), exist_ok=True)
            part = f"{path}.{key}.part"
            with open(part, "wb") as file:
                file.write(body)
            os.replace(part, path)
            return self.answer(200)
        if not os.path.isfile(path):
            cloud = warehouse.faults["cloud"]
            # Azure is strict about a DELETE, the others take it as done (databricks-sql-nodejs#249).
            if method == "DELETE" and cloud != "azure":
                return self.answer(204)
            return self.answer(404, MISSING[cloud].encode())
        if method == "GET":
            with open(path, "rb") as file:
                return self.answer(200, file.read())
        os.unlink(path)
        return self.answer(204)


def serve(warehouse, identity=()):
    """Serve *warehouse*, with TLS where there is a certificate and a key; return the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    server.warehouse = warehouse
    server.base = f"http{'s' * bool(identity)}://127.0.0.1:{server.server_port}"
    server.processor = TCLIService.Processor(warehouse)
    if identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    root, *identity = sys.argv[1:]
    warehouse = Warehouse(root)
    ports = [serve(warehouse), *([serve(warehouse, identity)] if identity else [])]
    print(*ports, flush=True)
    threading.Event().wait()  # executors stop with the main thread


if __name__ == "__main__":
    main()
