"""Real servers for the tests: fetched once, started on free loopback ports in folders of their own, stopped.

Elasticsearch comes from Maven Central (107 MB) into `$MCP_TEST_CACHE`, else `.cache/servers` of the checkout. It
needs a JDK 17 or newer and Maven; where they are missing, `missing` skips the test or fails it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme

ELASTICSEARCH = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.19.21:zip"
UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
START_SECONDS = 90.0
NOBODY = 65534


def missing(reason: str) -> NoReturn:
    """Skip the test because something is not installed; with `MCP_TEST_REQUIRE=all` fail it instead.

    Every suite calls this where a real component cannot be had; `reason` says what to install and how.
    """
    if os.environ.get("MCP_TEST_REQUIRE") == "all":
        pytest.fail(f"MCP_TEST_REQUIRE=all, but {reason}", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- fetching ----------------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where fetched servers are kept between runs; reachable for the user that the servers run as."""
    if chosen := os.environ.get("MCP_TEST_CACHE"):
        return Path(chosen)
    checkout = Path(__file__).resolve().parents[2]
    if os.geteuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in (checkout, *checkout.parents)):
        return Path(tempfile.gettempdir()) / "mcp-ingest-servers"  # a checkout under /root is closed to nobody
    return checkout / ".cache" / "servers"


def fetch_elasticsearch() -> Path:
    """The home of an unpacked Elasticsearch."""
    return next(fetch(ELASTICSEARCH).glob("elasticsearch-*"))


def fetch(artifact: str) -> Path:
    """The folder of an unpacked artifact of Maven Central; downloads it the first time, all of it or nothing."""
    if not (shutil.which("java") and shutil.which("mvn")):
        missing("Java or Maven is missing: install a JDK 17 and Maven (apt-get install openjdk-17-jdk-headless maven)")
    target = cache_directory() / artifact.replace(":", "_")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(dir=target.parent, prefix="unpacking-"))
        unpacked.chmod(0o755)
        _unpack(artifact, unpacked)
        try:
            unpacked.rename(target)
        except OSError:  # another run was faster
            shutil.rmtree(unpacked, ignore_errors=True)
    return target


def _unpack(artifact: str, folder: Path) -> None:
    command = ["mvn", "-B", "-ntp", "-q", UNPACK, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    markers = f"-Dmdep.unpack.markersDirectory={folder}/.markers"
    done = subprocess.run([*command, markers], cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        missing(f"{artifact} cannot be fetched from Maven Central: {done.stdout[-2000:]}")


# --- one node ----------------------------------------------------------------------------------------------

_LOGGING = """\
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level=info
rootLogger.appenderRef.c.ref=c
"""
_JVM = "-Xms512m -Xmx512m -XX:+UseSerialGC -XX:-AlwaysPreTouch -XX:TieredStopAtLevel=1"


class Elasticsearch:
    """One real node: `url` is where it listens, `settings` are further lines of its elasticsearch.yml.

    With `users` (name to password and role, roles in `roles`) it asks for a password, with `certificate` (PEM
    file names: key and chain) it speaks TLS. Its data outlive `stop`, `kill` and `restart`, not `close`.
    """

    def __init__(
        self,
        settings: Sequence[str] = (),
        users: Mapping[str, tuple[str, str]] | None = None,
        roles: str = "",
        certificate: tuple[Path, Path] | None = None,
        authority: Path | None = None,
    ) -> None:
        self.home = self._fetch()
        self.work = Path(tempfile.mkdtemp(prefix="mcp-ingest-server-"))
        self.port = free_port()
        self.users = dict(users or {})
        self.tls = certificate is not None
        self.authority = authority
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        self._launcher: subprocess.Popen[bytes] | None = None
        self._configure([*settings, *self._security(certificate)], roles)

    def _fetch(self) -> Path:
        return fetch_elasticsearch()

    def _security(self, certificate: tuple[Path, Path] | None) -> list[str]:
        if not self.users:
            return ["xpack.security.enabled: false"]
        lines = ["xpack.security.enabled: true", "xpack.security.autoconfiguration.enabled: false"]
        lines += ["xpack.security.authc.realms.file.file1.order: 0", "resource.reload.interval.high: 500ms"]
        if certificate is not None:
            key, chain = certificate
            config = self.work / "config"
            config.mkdir(exist_ok=True)
            shutil.copy(key, config / "http.key")
            shutil.copy(chain, config / "http.pem")
            lines += ["xpack.security.http.ssl.enabled: true", "xpack.security.http.ssl.key: http.key"]
            lines += ["xpack.security.http.ssl.certificate: http.pem"]
        return lines

    def _configure(self, settings: Sequence[str], roles: str) -> None:
        for name in ("config", "data", "logs", "tmp", "repo"):
            (self.work / name).mkdir(exist_ok=True)
        config = self.work / "config"
        lines = ["cluster.name: it", "node.name: n1", "network.host: 127.0.0.1", f"http.port: {self.port}"]
        lines += [f"transport.port: {free_port()}", "discovery.type: single-node", f"path.data: {self.work}/data"]
        lines += [f"path.logs: {self.work}/logs", f"path.repo: {self.work}/repo"]
        lines += ["cluster.routing.allocation.disk.threshold_enabled: false", *settings]
        (config / "elasticsearch.yml").write_text("\n".join(lines) + "\n")
        options = [*_JVM.split(), f"-Djava.io.tmpdir={self.work}/tmp"]
        (config / "jvm.options").write_text("\n".join(options) + "\n")
        (config / "log4j2.properties").write_text(_LOGGING)
        if self.users:
            (config / "roles.yml").write_text(roles)
            (config / "users_roles").write_text("".join(f"{r}:{n}\n" for n, (_, r) in self.users.items()))
            self._write_users()

    def _write_users(self) -> None:
        lines = [f"{name}:{_hashed(password)}\n" for name, (password, _) in self.users.items()]
        (self.work / "config" / "users").write_text("".join(lines))

    def set_password(self, user: str, password: str) -> None:
        """Give a user a new password; the running server takes it within two seconds."""
        self.users[user] = (password, self.users[user][1])
        self._write_users()

    # --- its life ---

    def start(self) -> Elasticsearch:
        """Start it and wait until its health is at least yellow."""
        command, environment = self._command()
        if os.geteuid() == 0:  # the server refuses to run as root
            for path in (self.work, *self.work.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        with (self.work / "console.log").open("ab") as console:
            self._launcher = subprocess.Popen(
                command,
                cwd=self.home,
                env={**os.environ, "HOME": str(self.work), **environment},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._wait_for_health()
        return self

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """What starts it, and its environment."""
        command = ["java", "-Xms4m", "-Xmx64m", "-XX:+UseSerialGC", "-Dcli.name=server"]
        command += ["-Dcli.script=bin/elasticsearch", "-Dcli.libs=lib/tools/server-cli"]
        command += [f"-Des.path.home={self.home}", f"-Des.path.conf={self.work}/config"]
        command += ["-Des.distribution.type=zip", "-Des.java.type=ES_JAVA_HOME"]
        command += ["-cp", f"{self.home}/lib/*:{self.home}/lib/cli-launcher/*"]
        command += ["org.elasticsearch.launcher.CliToolLauncher", "-p", f"{self.work}/es.pid"]
        return command, {"ES_TMPDIR": f"{self.work}/tmp"}

    def _wait_for_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._launcher is not None
            if self._launcher.poll() is not None:
                break
            try:
                status, _ = self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s")
            except (OSError, ValueError):  # ValueError: no JSON yet
                status = 0
            if status == 200:
                return
            time.sleep(0.1)
        self.kill()
        pytest.fail(
            f"{type(self).__name__} did not start:\n" + (self.work / "console.log").read_text()[-3000:], pytrace=False
        )

    @property
    def pid(self) -> int:
        """The server's process, not its launcher's."""
        return int((self.work / "es.pid").read_text())

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it in good order."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it with `kill -9`."""
        self._signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same folder and port, after `stop` or `kill`."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and delete its folder."""
        self.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        launcher = self._launcher
        if launcher is None:
            return
        try:
            os.kill(self.pid, number)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            launcher.send_signal(number)
        self._launcher = None
        try:
            launcher.wait(20)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
        (self.work / "es.pid").unlink(missing_ok=True)

    # --- asking it ---

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded JSON of one request; as the first of the `users` where there are some."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("content-type", "application/json")
        for user, (password, _) in list(self.users.items())[:1]:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("authorization", f"Basic {token}")
        context = ssl.create_default_context(cafile=self.authority) if self.tls else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def search(self, index: str, body: Any = None) -> list[dict[str, Any]]:
        """The hits of a search, at most 10,000, after a refresh."""
        self.request("POST", f"/{index}/_refresh")
        status, answer = self.request("POST", f"/{index}/_search?size=10000", body or {})
        assert status == 200, answer
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def count(self, index: str) -> int:
        """How many documents are searchable, after a refresh; 0 without the index."""
        self.request("POST", f"/{index}/_refresh?ignore_unavailable=true")
        _, answer = self.request("GET", f"/{index}/_count?ignore_unavailable=true")
        return int(answer.get("count", 0))  # none while the shards of a new index are being made


def _hashed(password: str) -> str:
    salt = os.urandom(32)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 10000, 32)
    return f"{{PBKDF2}}10000${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


# --- with TLS and a password -------------------------------------------------------------------------------

#: `writer` may write logs and nothing else: not even look at templates. `shipper` has the role of
#: docs/delivery.md, for indices of one name.
ROLES = """\
writer:
  cluster: []
  indices:
    - names: ["*"]
      privileges: ["create_doc", "auto_configure", "create_index"]
shipper:
  cluster: ["manage_index_templates"]
  indices:
    - names: ["secured-*"]
      privileges: ["auto_configure", "create_doc", "create_index"]
"""


def secured(directory: Path) -> Elasticsearch:
    """A node with TLS and the users `admin`, `writer` and `shipper`, whose passwords are `admin-password` and so on.

    `directory` gets `ca.pem`, its authority, and `stranger.pem`, one that it has nothing to do with.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(directory / "stranger.pem"))
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    key, chain = directory / "key.pem", directory / "chain.pem"
    certificate.private_key_pem.write_to_path(str(key))
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    roles = {"admin": "superuser", "writer": "writer", "shipper": "shipper"}
    users = {name: (f"{name}-password", role) for name, role in roles.items()}
    return Elasticsearch((), users, ROLES, (key, chain), directory / "ca.pem")
