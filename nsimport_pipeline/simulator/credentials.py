"""The well-known credentials of the simulated account, kept in a directory so that they outlive a process.

Belongs here: making and reading them, and the tenants file that uses them. Does not belong here: verifying a request
(``auth.py``). They open nothing but a simulator on loopback.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.options import SimulatorOptions

CLIENT_ID = "simulator-client-id"
RSA_CERTIFICATE = "simulator-rsa-certificate"
EC_CERTIFICATE = "simulator-ec-certificate"
CONSUMER_KEY = "simulator-consumer-key"
CONSUMER_SECRET = "simulator-consumer-secret"  # noqa: S105 - opens nothing but a simulator
TOKEN_ID = "simulator-token-id"  # noqa: S105 - see above
TOKEN_SECRET = "simulator-token-secret"  # noqa: S105 - see above


@dataclass(frozen=True)
class SimulatorCredentials:
    """Everything needed to log in, and the key that access tokens are signed with."""

    directory: Path
    rsa_key: Path
    ec_key: Path
    signing_key: bytes

    @property
    def oauth2(self) -> dict[str, str]:
        """A tenant's ``auth`` for OAuth 2.0 with PS256."""
        return self._oauth2(self.rsa_key, RSA_CERTIFICATE, "PS256")

    @property
    def oauth2_ec(self) -> dict[str, str]:
        """A tenant's ``auth`` for OAuth 2.0 with ES256."""
        return self._oauth2(self.ec_key, EC_CERTIFICATE, "ES256")

    @property
    def tba(self) -> dict[str, str]:
        """A tenant's ``auth`` for token-based authentication."""
        return {
            "method": "tba",
            "consumer_key": CONSUMER_KEY,
            "consumer_secret": CONSUMER_SECRET,
            "token_id": TOKEN_ID,
            "token_secret": TOKEN_SECRET,
        }

    def _oauth2(self, key: Path, certificate: str, algorithm: str) -> dict[str, str]:
        return {
            "method": "oauth2",
            "client_id": CLIENT_ID,
            "certificate_id": certificate,
            "private_key_file": str(key.absolute()),
            "algorithm": algorithm,
        }


def ensure_credentials(directory: Path | str) -> SimulatorCredentials:
    """The credentials in ``directory``; what is missing is made, what is there is kept. Files have mode 600."""
    directory = Path(directory).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        rsa_key, ec_key, signing = directory / "rsa-key.pem", directory / "ec-key.pem", directory / "token-key"
        if not rsa_key.exists():
            _write(rsa_key, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
        if not ec_key.exists():
            _write(ec_key, _pem(ec.generate_private_key(ec.SECP256R1())))
        if not signing.exists():
            _write(signing, secrets.token_hex(32).encode())
        return SimulatorCredentials(directory, rsa_key, ec_key, signing.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot keep the simulator's credentials: {error.strerror}") from None


def write_tenants_file(credentials: SimulatorCredentials, options: SimulatorOptions, base_url: str) -> Path:
    """``tenants.yaml`` beside the credentials, with a tenant ``demo`` ready to import from ``base_url``."""
    auth: dict[str, Any] = {**credentials.oauth2, "private_key_file": credentials.rsa_key.name}
    document = {
        "tenants": {
            "demo": {
                "account": options.account,
                "base_url": base_url,
                "auth": auth,
                "warehouse_url": "sqlite:///demo.db",
                "slots": options.slots,
                "timezone": options.timezone,
            }
        }
    }
    file = credentials.directory / "tenants.yaml"
    head = "# Written by `nsimport simulate` at each start. These credentials open only this machine's simulator.\n"
    _write(file, (head + yaml.safe_dump(document, sort_keys=False)).encode())
    return file


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes) -> None:
    """Put ``content`` there at once: another process never reads half a file."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(file)
