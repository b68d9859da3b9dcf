"""Where the API server is and how to prove who we are.

kubernetes-asyncio reads kubeconfig files and the pod's service account, and refreshes tokens. It is imported
here and nowhere else, as importing it costs 40 MiB.
"""

import os
import ssl
from pathlib import Path

from kubernetes_asyncio import config
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException

from kubedr_ctrl.kube.stamp import Stamp, stamp_of

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(OSError):
    """The credentials cannot be read, at the moment."""


class Credentials:
    """The server's address, a TLS context and an Authorization header, each as fresh as its file."""

    def __init__(self, configuration: Configuration, *, token_file: Path | None = None) -> None:
        """`token_file` is read anew whenever it has changed, by no clock; without it the configuration decides."""
        self._configuration = configuration
        self._ssl: ssl.SSLContext | None = None
        self._ssl_stamp: Stamp = ()
        self._token_file = token_file
        self._token, self._token_stamp = "", ()  # type: tuple[str, Stamp]
        self.server: str = str(configuration.host).rstrip("/")

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        try:
            if self._token_file:
                stamp = stamp_of(self._token_file)
                if stamp != self._token_stamp:
                    self._token, self._token_stamp = f"Bearer {self._token_file.read_text().strip()}", stamp
                return {"Authorization": self._token}
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (ValueError, ConfigException) as error:
            msg = f"the credentials cannot be read: {error}"
            raise CredentialsError(msg) from error
        return {"Authorization": token} if token else {}

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, made anew when a certificate file has changed; None for plain HTTP."""
        if not self.server.startswith("https"):
            return None
        settings = self._configuration
        files = [path for path in (settings.ssl_ca_cert, settings.cert_file, settings.key_file) if path]
        stamp = stamp_of(*files)
        if self._ssl is None or stamp != self._ssl_stamp:
            context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
            # Python 3.13 began to refuse CAs without all the extensions of RFC 5280; client-go does not.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if settings.cert_file:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            if not settings.verify_ssl:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._ssl, self._ssl_stamp = context, stamp
        return self._ssl


async def load_credentials(service_account: Path = SERVICE_ACCOUNT) -> Credentials:
    """Return the credentials of KUBECONFIG where it is set, else those of the pod, else of ~/.kube/config.

    CredentialsError says why there are none.
    """
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG")
    token = service_account / "token"
    if not kubeconfig and token.exists():
        config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration,
            try_refresh_token=False,
            token_filename=str(token),
            cert_filename=str(service_account / "ca.crt"),
        )
        return Credentials(configuration, token_file=token)
    try:
        await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    except ConfigException as error:
        msg = f"there is neither a pod's service account nor a kubeconfig that can be used; set KUBECONFIG: {error}"
        raise CredentialsError(msg) from error
    return Credentials(configuration)


def pod_namespace() -> str | None:
    """Return the namespace of the pod that we run in, or None outside of one."""
    path = SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else None
