"""Keys on the command line."""

from hidream_server.keys import Scope, is_key
from hidream_server.store.database import open_sqlite
from hidream_server.store.keys import KeyStore
from hidream_server.webhooks.signing import sign
from tests.cli.test_main import hidream, no_exported_options

__all__ = ["hidream", "no_exported_options"]


def test_a_key_is_made_listed_and_revoked(hidream, tmp_path):
    where = ("--data-dir", str(tmp_path))
    code, text, about = hidream(
        "keys", "create", "anna", "--weight", "2", "--max-queued", "5", *where
    )
    assert code == 0
    assert is_key(text.strip())
    assert "anna" in about
    key_id = text.split("_")[1]
    assert hidream("keys", "create", "boss", "--scope", "admin", *where)[0] == 0
    code, listed, _ = hidream("keys", "list", *where)
    first, second = listed.splitlines()
    assert first.split()[:2] == [key_id, "generate"]
    assert "max-queued=5 weight=2.0" in first
    assert second.split()[1] == "admin"
    assert text.strip() not in listed
    assert hidream("keys", "revoke", key_id, *where)[0] == 0
    assert "revoked" in hidream("keys", "list", *where)[1].splitlines()[0]
    database = open_sqlite(tmp_path / "tasks.db")
    assert KeyStore(database).find(text.strip()) is None
    assert [key.scope for key in KeyStore(database).all()] == [Scope.GENERATE, Scope.ADMIN]
    database.dispose()


def test_every_key_has_a_webhook_secret_of_its_own_and_those_without_share_one(hidream, tmp_path):
    where = ("--data-dir", str(tmp_path))
    ids = [hidream("keys", "create", name, *where)[1].split("_")[1] for name in ("a", "b")]
    asked = [[], *([key_id] for key_id in ids)]
    printed = [hidream("keys", "webhook-secret", *which, *where) for which in asked]
    assert [code for code, _, _ in printed] == [0, 0, 0]
    secrets = [text.strip() for _, text, _ in printed]
    assert len(set(secrets)) == 3
    for text in secrets:
        assert sign(text, "msg_1", 1, b"{}")
    # A revoked key's last messages are still to be verified, and nothing is drawn anew.
    hidream("keys", "revoke", ids[0], *where)
    assert hidream("keys", "webhook-secret", ids[0], *where)[1].strip() == secrets[1]
    code, _, error = hidream("keys", "webhook-secret", "nobody", *where)
    assert (code, error) == (1, "hidream: There is no key nobody.\n")


def test_a_key_that_is_not_there_is_said_in_one_sentence(hidream, tmp_path):
    code, _, error = hidream("keys", "revoke", "nobody", "--data-dir", str(tmp_path))
    assert (code, error) == (1, "hidream: There is no key nobody that could be revoked.\n")


def test_of_no_keys_it_is_said_what_that_means(hidream, tmp_path):
    code, listed, about = hidream("keys", "list", "--data-dir", str(tmp_path))
    assert (code, listed) == (0, "")
    assert "whoever reaches the service" in about


def test_what_a_limit_cannot_be_is_refused(hidream, tmp_path):
    for wrong in (["--weight", "0"], ["--max-queued", "-1"], ["--scope", "root"]):
        assert hidream("keys", "create", "a", *wrong, "--data-dir", str(tmp_path))[0] == 2
    assert not (tmp_path / "tasks.db").exists()
