"""Where the API server is and how to prove who we are.

kubernetes-asyncio reads kubeconfig files and the pod's service account, and refreshes tokens. It is imported
here and nowhere else, as importing it costs 40 MiB.
"""

import os
import ssl
from pathlib import Path

from kubernetes_asyncio import config
from kubernetes_asyncio.client import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Credentials:
    """The server's address, a TLS context and an Authorization header, each as fresh as its file."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._ssl: ssl.SSLContext | None = None
        self._ssl_stamp: tuple[float, ...] = ()
        self.server: str = str(configuration.host).rstrip("/")

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request; a token that is about to expire is read anew."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, made anew when a certificate file has changed; None for plain HTTP."""
        if not self.server.startswith("https"):
            return None
        settings = self._configuration
        files = [path for path in (settings.ssl_ca_cert, settings.cert_file, settings.key_file) if path]
        stamp = tuple(Path(path).stat().st_mtime for path in files)
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


async def load_credentials() -> Credentials:
    """Return the credentials of KUBECONFIG where it is set, else those of the pod, else of ~/.kube/config."""
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig and (SERVICE_ACCOUNT / "token").exists():
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    return Credentials(configuration)


def pod_namespace() -> str | None:
    """Return the namespace of the pod that we run in, or None outside of one."""
    path = SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else None
