"""Addresses of files that lie elsewhere."""

import hashlib

REMOTE = ("root://", "https://", "http://")


def is_remote(address: str) -> bool:
    """True for what is read over a network."""
    return address.startswith(REMOTE)


def digest_of(address: str) -> str:
    """A few characters that tell an address from others."""
    return hashlib.sha256(address.encode()).hexdigest()[:8]
