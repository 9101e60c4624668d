"""A certificate authority for one test session, by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True)
class KeyPair:
    """Files of a certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a directory; `certificate` is what clients trust."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.certificate = directory / "ca.crt"
        self.key = directory / "ca.key"
        _openssl(
            *("req", "-x509", *_KEY, "-subj", "/CN=plumbline test authority"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
            *("-keyout", self.key, "-out", self.certificate),
        )

    def issue(
        self, user: str, *, groups: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> KeyPair:
        """A certificate for a Kubernetes user and, where it serves, for its addresses.

        Args:
            groups: of the user, the certificate's organisations.
            addresses: `IP:...` and `DNS:...` that a server answers at.
        """
        stem = user.replace(":", "-")
        pair = KeyPair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        names = ("-addext", f"subjectAltName={','.join(addresses)}") if addresses else ()
        _openssl(
            *("req", "-x509", "-CA", self.certificate, "-CAkey", self.key, *_KEY),
            *("-subj", subject, *names),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
            *("-keyout", pair.key, "-out", pair.certificate),
        )
        return pair

    def signing_keys(self, name: str) -> KeyPair:
        """An RSA key and its public half, for service account tokens."""
        pair = KeyPair(self._directory / f"{name}.pub", self._directory / f"{name}.key")
        size = ("-pkeyopt", "rsa_keygen_bits:2048")
        _openssl("genpkey", "-algorithm", "RSA", *size, "-out", pair.key)
        _openssl("pkey", "-in", pair.key, "-pubout", "-out", pair.certificate)
        return pair


def _openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl") or pytest.skip("the openssl program is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
