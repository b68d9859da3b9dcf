"""The certificate that we serve with: always the one that is on disk, as far as it can be used.

A directory holds it as a Secret of type kubernetes.io/tls is mounted. Each handshake looks whether the files have
changed, as they do when cert-manager renews; what cannot be used then leaves the last good pair in place.
"""

import logging
import ssl
from pathlib import Path

from kubedr_ctrl.kube.stamp import Stamp, stamp_of

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """There is no certificate that could be served with."""


class ServingCertificate:
    """The pair in `directory`. CertificateError says what is wrong with it at first."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self._stamp = self._look()
        self._current = self._load()
        self.context = self._current
        """For the listening socket, for as long as it listens."""
        # Called without a server name, too.
        self.context.sni_callback = lambda connection, _name, _context: self._choose(connection)

    def _choose(self, connection: ssl.SSLObject) -> None:
        """Have `connection` use what is on disk now."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._current = self._load()
            except CertificateError as error:
                log.warning("still serving with the certificate that was there before: %s", error)
            else:
                log.info("serving with a new certificate from %s", self._files[0])
        connection.context = self._current

    def _look(self) -> Stamp | None:
        try:
            return stamp_of(*self._files)
        except OSError:
            return None

    def _load(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            for file in self._files:
                file.read_bytes()  # the next step would not say which of them cannot be read
            context.load_cert_chain(certificate, key, password="")  # an encrypted key would be asked for at a terminal
        except ssl.SSLError as error:
            msg = (
                f"{certificate} and {key} are no PEM certificate and the unencrypted private key that belongs to it "
                f"({error.reason}): they have to be those of one Secret of type kubernetes.io/tls"
            )
            raise CertificateError(msg) from error
        except OSError as error:
            msg = (
                f"{error.filename} cannot be read ({error.strerror}): mount a Secret of type kubernetes.io/tls at "
                f"{certificate.parent}"
            )
            raise CertificateError(msg) from error
        return context
