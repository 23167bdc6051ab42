"""Looks, before anything is started, whether there can be HTTPS."""

import ssl

from hidream_server.errors import TlsFilesError
from hidream_server.settings import Settings


def check_tls(settings: Settings) -> None:
    """Raise TlsFilesError, in one sentence, for files that no HTTPS can be served with."""
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise TlsFilesError("HTTPS needs both --ssl-certfile and --ssl-keyfile.")
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsFilesError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        # Without an empty passphrase one would be asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise TlsFilesError(
            f"HTTPS cannot be served with the certificate {certificate} and the key {key}"
            f" ({reason}): both must be PEM and belong together, the key without a passphrase."
        ) from error
