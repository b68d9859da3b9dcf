"""Lists, as a whole."""

from typing import TypeVar

from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource, Unreadable
from kubedr_ctrl.kube.objects import Object

T = TypeVar("T", bound=Object)


async def read_all(client: Client, resource: Resource[T], namespace: str, selector: str = "") -> list[T | Unreadable]:
    """Return all objects of a kind in a namespace, page by page."""
    found: list[T | Unreadable] = []
    token = ""
    while True:
        page = await client.list_page(resource, namespace, selector=selector, continue_token=token)
        found.extend((*page.items, *page.unreadable))
        token = page.continue_token
        if not token:
            return found
