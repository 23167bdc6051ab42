"""Signatures, as a receiver's own library sees them."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from hidream_server.errors import WebhookSecretError
from hidream_server.webhooks.signing import sign
from tests.webhooks.support import SECRET

BODY = '{"prompt":"红色的圆"}'.encode()
OTHER_SECRET = "whsec_" + "B" * 32


def secret_of(size: int) -> str:
    return "whsec_" + base64.b64encode(bytes(size)).decode()


def test_a_receivers_library_accepts_the_signature():
    headers = sign(SECRET, "msg_1", int(time.time()), BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"prompt": "红色的圆"}


@pytest.mark.parametrize(
    ("secret", "changes", "body"),
    [
        (OTHER_SECRET, {}, BODY),
        (SECRET, {}, BODY + b" "),
        (SECRET, {"webhook-id": "msg_2"}, BODY),
        (SECRET, {"webhook-timestamp": str(int(time.time()) + 1)}, BODY),
    ],
    ids=["secret", "body", "id", "timestamp"],
)
def test_it_refuses_what_was_changed_on_the_way(secret, changes, body):
    headers = sign(SECRET, "msg_1", int(time.time()) - 1, BODY) | changes
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_the_signature_is_the_one_that_other_implementations_make():
    message_id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    assert sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", message_id, 1614265330, body) == {
        "webhook-id": message_id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("size", [24, 64])
def test_a_key_may_have_24_to_64_bytes(size):
    assert sign(secret_of(size), "msg_1", 1, b"")["webhook-id"] == "msg_1"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "A" * 32,
        "whsec_",
        secret_of(23),
        secret_of(65),
        "whsec_" + "A" * 31 + "!",
        "whsec_" + "A" * 32 + "!!!!",
        "whsec_" + "A" * 16 + "-_" + "A" * 14,
        "whsec_" + "A" * 33,
        "whsec_" + "红" * 32,
        "whpk_" + "A" * 32,
    ],
)
def test_a_secret_of_another_form_is_refused_and_not_shown(secret):
    with pytest.raises(WebhookSecretError) as caught:
        sign(secret, "msg_1", 1, b"")
    assert str(caught.value) == WebhookSecretError.__doc__
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_id_has_no_full_stop_which_would_shift_what_is_signed():
    with pytest.raises(AssertionError):
        sign(SECRET, "msg.1", 1, b"")
