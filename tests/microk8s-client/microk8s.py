#!/usr/bin/env python3
"""What a node of MicroK8s does towards other nodes, and nothing of mk.

Written from a description of the protocol, to be an independent judge: it
joins a cluster as a worker, asks nodes to change arguments and to restart
services, and gives them images. Like MicroK8s it does not verify the server
but by the digits at the end of a connection string. Standard library and the
openssl program only.
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys

VERSION_1 = "/cluster/api/v1.0"
VERSION_2 = "/cluster/api/v2.0"
TIMEOUT = 180  # seconds, for one request


class Refused(Exception):
    """The other node said no: a status and its error."""

    def __init__(self, status, body):
        self.status = status
        try:
            text = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            text = body.decode("utf-8", "replace")[:500]
        super().__init__(f"{status} {text}")


class Node:
    """Another node's cluster agent."""

    def __init__(self, address, check=None):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.check = check

    def post(self, path, body, headers=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=context)
        try:
            connection.connect()
            leaf = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
            if self.check and not leaf.startswith(self.check):
                sys.exit("the server's certificate is not the one of the connection string")
            try:
                connection.request("POST", path, body=body, headers=headers or {})
            except (ConnectionError, ssl.SSLError):
                pass  # a server that refuses may do so before it has read all
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(answer.status, data)
        return json.loads(data)

    def ask(self, path, question):
        return self.post(path, json.dumps(question).encode(), {"Content-Type": "application/json"})


def openssl(*words, stdin=None):
    return subprocess.run(["openssl", *words], input=stdin, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def write(path, data, mode=0o600):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)


def request(key, subject, names):
    """A certificate signing request; the key is made where there is none."""
    if not os.path.exists(key):
        os.makedirs(os.path.dirname(key), exist_ok=True)
        openssl("genrsa", "-out", key, "2048")
        os.chmod(key, 0o600)
    words = ["req", "-new", "-sha256", "-subj", subject, "-key", key]
    if names:
        words += ["-addext", "subjectAltName = " + ", ".join(names)]
    return openssl(*words).decode()


KUBECONFIG = """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {server}
  name: microk8s-cluster
contexts:
- context: {{cluster: microk8s-cluster, user: {user}}}
  name: microk8s
current-context: microk8s
kind: Config
preferences: {{}}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"""


def kubeconfig(path, ca, server, user, certificate, key):
    def encoded(data):
        return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()

    with open(key, "rb") as file:
        private = file.read()
    write(path, KUBECONFIG.format(ca=encoded(ca), server=server, user=user, certificate=encoded(certificate), key=encoded(private)))


def set_argument(text, option, value):
    lines = [line for line in text.splitlines() if not line.startswith(option)]
    return "\n".join(lines + ([f"{option}={value}"] if value is not None else [])) + "\n"


def join(o):
    address, token, *rest = o.connection.split("/")
    node = Node(address, rest[0] if rest else None)
    host = o.hostname.lower()
    question = {
        "token": token,
        "hostname": o.hostname,
        "port": o.port,
        "worker": o.worker,
        "can_handle_x509_auth": True,
        "can_handle_custom_etcd": True,
    }
    info = node.ask(VERSION_2 + "/join", question)
    if info["ca_key"] is not None:
        sys.exit("the server takes this node for a control-plane node")
    data, certs = o.data, os.path.join(o.data, "certs")
    write(os.path.join(certs, "ca.remote.crt"), info["ca"], 0o644)

    proxy_key = os.path.join(certs, "proxy.key")
    proxy = node.ask(VERSION_1 + "/sign-cert", {"token": token + "-proxy", "request": request(proxy_key, "/CN=system:kube-proxy", [])})["certificate"]

    kubelet_key = os.path.join(certs, "kubelet.key")
    names = ["DNS:" + host] + ["IP:" + a for a in o.addresses]
    csr = request(kubelet_key, f"/CN=system:node:{host}/O=system:nodes", names)
    kubelet = node.ask(VERSION_1 + "/sign-cert", {"token": token + "-kubelet", "request": csr})["certificate"]
    write(os.path.join(certs, "kubelet.crt"), kubelet, 0o644)

    server = f"https://{node.host}:{info['apiport']}"
    for name, user, certificate, key in (
        ("proxy", "system:kube-proxy", proxy, proxy_key),
        ("kubelet", "system:node:" + host, kubelet, kubelet_key),
    ):
        kubeconfig(os.path.join(data, "credentials", name + ".config"), info["ca"], server, user, certificate, key)

    arguments = set_argument(info["kubelet_args"], "--client-ca-file", "${SNAP_DATA}/certs/ca.remote.crt")
    arguments = set_argument(arguments, "--hostname-override", None)
    write(os.path.join(data, "args", "kubelet"), arguments)
    proxy_arguments = "--kubeconfig=${SNAP_DATA}/credentials/proxy.config\n--healthz-bind-address=127.0.0.1\n"
    write(os.path.join(data, "args", "kube-proxy"), set_argument(proxy_arguments, "--cluster-cidr", info["cluster_cidr"]))
    write(os.path.join(data, "credentials", "callback-token.txt"), info["callback_token"] + "\n")
    for lock in ("clustered.lock", "no-cert-reissue"):
        write(os.path.join(data, "var", "lock", lock), b"")
    print(json.dumps({k: info[k] for k in ("hostname_override", "apiport", "api_authz_mode", "control_plane_nodes", "cluster_cidr")}))


def sign(o):
    """Asks for one certificate with a token."""
    address, token, *_ = o.connection.split("/")
    csr = request(o.key, o.subject, [])
    print(Node(address).ask(VERSION_1 + "/sign-cert", {"token": token, "request": csr})["certificate"])


def configure(o):
    """What distributed_op.py sends to every node."""
    service = {"name": o.service}
    if o.update:
        service["arguments_update"] = [dict([u.split("=", 1)]) for u in o.update]
    if o.remove:
        service["arguments_remove"] = o.remove
    if o.restart:
        service["restart"] = "yes"
    question = {"callback": o.callback, "action_str": "configure", "service": [service]}
    print(json.dumps(Node(o.node).ask(VERSION_1 + "/configure", question)))


def images(o):
    with open(o.file, "rb") as file:
        headers = {"x-microk8s-callback-token": o.callback, "Content-Length": str(os.path.getsize(o.file))}
        print(json.dumps(Node(o.node).post(VERSION_2 + "/image/import", file, headers)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("join")
    verb.add_argument("connection")
    verb.add_argument("--worker", action="store_const", const="as-worker", default=False)
    verb.add_argument("--hostname", default=socket.gethostname())
    verb.add_argument("--addresses", nargs="*", default=[])
    verb.add_argument("--port", default="25000")
    verb.add_argument("--data", required=True, help="the folder that stands for SNAP_DATA")
    verb.set_defaults(do=join)

    verb = verbs.add_parser("sign")
    verb.add_argument("connection")
    verb.add_argument("--subject", required=True)
    verb.add_argument("--key", required=True)
    verb.set_defaults(do=sign)

    verb = verbs.add_parser("configure")
    verb.add_argument("node")
    verb.add_argument("service")
    verb.add_argument("--callback", required=True)
    verb.add_argument("--update", nargs="*", metavar="OPTION=VALUE")
    verb.add_argument("--remove", nargs="*", metavar="OPTION")
    verb.add_argument("--restart", action="store_true")
    verb.set_defaults(do=configure)

    verb = verbs.add_parser("images")
    verb.add_argument("node")
    verb.add_argument("file")
    verb.add_argument("--callback", required=True)
    verb.set_defaults(do=images)

    o = parser.parse_args()
    try:
        o.do(o)
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(6)


if __name__ == "__main__":
    main()
