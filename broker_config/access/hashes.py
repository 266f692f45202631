"""A device's secret as each broker stores it: none of them can be made of another one's.

All three are made when a secret is, because only then is it known. Secrets are 160 random bits, so
no hash needs to be slow (see :data:`~.registry.HASHER`): each is as light as its broker takes it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

import bcrypt

#: mosquitto's own default; its form names the count, so another one is no break.
_PBKDF2_ROUNDS = 101
_PBKDF2_SALT_BYTES = 12
#: 2**5 rounds, the least that EMQX takes: a thousand devices at once cost seconds, not minutes.
_BCRYPT_COST = 5


def pbkdf2_sha512(secret: str) -> str:
    """As ``mosquitto_passwd`` of mosquitto 2 writes it: ``$7$rounds$salt$hash``."""
    salt = secrets.token_bytes(_PBKDF2_SALT_BYTES)
    made = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, _PBKDF2_ROUNDS)
    return (
        f"$7${_PBKDF2_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"
    )


def bcrypt_hash(secret: str) -> str:
    """``$2b$...``, for NATS and EMQX."""
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()
