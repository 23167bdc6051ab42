"""Signatures as in Standard Webhooks 1.0.0, the symmetric scheme v1 (https://www.standardwebhooks.com).

The scheme: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac

from hidream_server.errors import WebhookSecretError

SECRET_PREFIX = "whsec_"
#: How long a key may be, in bytes.
_KEY_BYTES = range(24, 65)


def sign(secret: str, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a receiver knows who sent this body, and when.

    `message_id` is the same in every try to deliver a message; `at_s` is the time of this try, in
    seconds since the epoch. Raises WebhookSecretError.
    """
    # A full stop would let one message be read as another that has the same signature.
    assert "." not in message_id
    content = f"{message_id}.{at_s}.".encode() + body
    signature = hmac.digest(_key(secret), content, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def _key(secret: str) -> bytes:
    """Return the key that a secret is the text of, like whsec_<base64>."""
    if not secret.startswith(SECRET_PREFIX):
        raise WebhookSecretError
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:  # not base64, or not even ASCII
        raise WebhookSecretError from None
    if len(key) not in _KEY_BYTES:
        raise WebhookSecretError
    return key
