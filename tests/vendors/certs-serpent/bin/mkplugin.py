"""Serves a plugin for mk: what the Go sdk does, for Python.

Needs Debian's python3-grpcio and python3-protobuf. The messages are made at the
start from contracts.binpb, which lies beside this file: the compiled .proto
files, as `buf build` or `protoc --include_imports --descriptor_set_out` write
them.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

MAX_MESSAGE = 16 << 20
KEPT_ANSWERS = 1000


class Refused(Exception):
    """An error whose reason arrives on the other side: TOKEN_USED and the like."""

    codes = {
        "AUTHORITY_UNKNOWN": grpc.StatusCode.NOT_FOUND,
        "BAD_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
        "BAD_SETTINGS": grpc.StatusCode.INVALID_ARGUMENT,
        "NOT_POSSIBLE": grpc.StatusCode.FAILED_PRECONDITION,
    }

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason
        self.code = self.codes.get(reason, grpc.StatusCode.INTERNAL)


def _field(number, data):
    """One field of a protobuf message, of bytes."""
    head, size = bytes([number << 3 | 2]), len(data)
    while size > 0x7F:
        head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
    return head + bytes([size]) + data


def _details(error):
    """google.rpc.Status with an ErrorInfo of the domain mk."""
    info = _field(1, error.reason.encode()) + _field(2, b"mk")
    status = bytes([1 << 3, error.code.value[0]]) + _field(2, str(error).encode())
    return status + _field(3, _field(1, b"type.googleapis.com/google.rpc.ErrorInfo") + _field(2, info))


class _Status(grpc.Status):
    def __init__(self, error):
        self.code, self.details = error.code, str(error)
        self.trailing_metadata = (("grpc-status-details-bin", _details(error)),)


class Contracts:
    """The messages and services of mk's contracts."""

    def __init__(self, path):
        files = descriptor_pb2.FileDescriptorSet()
        with open(path, "rb") as f:
            files.ParseFromString(f.read())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:  # each comes after what it imports
            self.pool.AddSerializedFile(file.SerializeToString())
        self.factory = message_factory.MessageFactory(self.pool)

    def message(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def handler(self, service, answers):
        """Answers the questions for which `answers` has a method of that name."""
        methods = {}
        for m in self.pool.FindServiceByName(service).methods:
            answer = getattr(answers, m.name, None)
            if answer is not None:
                reply = self.factory.GetPrototype(m.output_type)
                methods[m.name] = grpc.unary_unary_rpc_method_handler(
                    _guarded(answer, reply),
                    request_deserializer=self.factory.GetPrototype(m.input_type).FromString,
                    response_serializer=reply.SerializeToString,
                )
        return grpc.method_handlers_generic_handler(service, methods)


def _guarded(answer, reply):
    def call(request, context):
        response = reply()
        try:
            answer(request, response)
        except Refused as e:
            context.abort_with_status(_Status(e))
        return response

    return call


class State:
    """One JSON document in the state folder: several processes may run at once,
    and one that is killed leaves the old document or the new one."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, 0o700, exist_ok=True)

    def read(self):
        try:
            with open(os.path.join(self.folder, "state.json"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    @contextlib.contextmanager
    def change(self):
        """Lends the document under a lock and keeps it, unless an error ends the block."""
        with open(os.path.join(self.folder, ".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = self.read()
            yield document
            new = os.path.join(self.folder, ".new")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
                json.dump(document, f)
                f.flush()
                os.fsync(f.fileno())
            os.rename(new, os.path.join(self.folder, "state.json"))
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def once(self, call, question, decide):
        """The same answer to the same question of the same operation."""
        if not call.operation_id:
            raise Refused("BAD_ARGUMENT", "the question carries no operation id")
        key = call.operation_id + " " + question
        with self.change() as document:
            answers = document.setdefault("answers", {})
            if key not in answers:
                answers[key] = decide(document)
                for old in list(answers)[:-KEPT_ANSWERS]:
                    del answers[old]
            return answers[key]


def serve(services):
    """Serves until mk ends this process. `services` maps the names of services
    to the objects that answer."""
    if os.environ.get("MK_PLUGIN") != "started-by-mk":
        sys.exit("This program is a plugin for mk. It is started by mk, not by hand.")
    # The handshake is all that may be on standard output: what libraries print
    # goes to standard error.
    handshake = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is mk's

    def shutdown(_request, _context):
        stop.set()
        return b""  # an empty message

    contracts = Contracts(os.path.join(os.path.dirname(os.path.abspath(__file__)), "contracts.binpb"))
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)],
    )
    server.add_generic_rpc_handlers(
        [contracts.handler(name, answers) for name, answers in services(contracts).items()]
        + [
            grpc.method_handlers_generic_handler(
                "plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)}
            ),
            # status: SERVING, as bytes
            grpc.method_handlers_generic_handler(
                "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda _r, _c: b"\x08\x01")}
            ),
        ]
    )
    socket = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "plugin")
    server.add_insecure_port("unix:" + socket)
    server.start()
    handshake.write(f"1|1|unix|{socket}|grpc|\n")
    handshake.close()
    stop.wait()
    server.stop(1).wait()
