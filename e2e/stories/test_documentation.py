"""What the documentation has people type, typed: the pages one after the other, in a namespace of their own."""

import secrets
from pathlib import Path

from e2e.cluster import Cluster
from e2e.pages import Reader
from e2e.stories.teller import take_away

CHAPTERS = (
    *("security", "installation", "configuration", "backup", "monitoring", "runbooks", "restore", "pausing"),
    *("troubleshooting", "uninstall"),
)
PAGES = ("README.md", *(f"docs/{chapter}.md" for chapter in CHAPTERS))


def test_the_pages_say_what_works(lent: Cluster, tmp_path: Path) -> None:
    repository, _, tag = lent.image.partition(":")
    bucket = f"docs-{secrets.token_hex(4)}"
    reader = Reader(
        tmp_path,
        examples={
            "kubedr-system": "docs",
            "helm upgrade --install kubedr charts/kubedr": "helm upgrade --install kubedr charts/kubedr "
            f"--set crds.enabled=false --set image.tag={tag}",
            "helm upgrade kubedr charts/kubedr": f"helm upgrade kubedr charts/kubedr --set crds.enabled=false "
            f"--set image.tag={tag}",
            "registry.example.com/kubedr:0.1.0": lent.image,
            "registry.example.com/kubedr": repository,
            "http://minio.example.com:9000/kubedr": f"{lent.s3.endpoint}/{bucket}",
            "http://minio.example.com:9000": lent.s3.endpoint,
            "bucketName: kubedr": f"bucketName: {bucket}",
        },
        variables={"S3_ACCESS_KEY": lent.s3.access_key, "S3_SECRET_KEY": lent.s3.secret_key},
    )
    try:
        for page in PAGES:
            reader.read(page)
    finally:
        take_away(lent, "docs")
