"""What a client's certificate says of who asks, beside its token. The certificate has been verified by TLS.

A node's certificate is as good as a token of the role agent for that node, and makes an agent's token that of its own
node alone. What another role may do, and what another kind of certificate is given, is said by tokens only.
"""

from __future__ import annotations

from dataclasses import replace

from controller.api.auth import Identity, Role

NODE = "trunkline.certified_node"
"""Key of the WSGI environment: the name of the node, or None."""


def certified(identity: Identity | None, node: str | None, *, has_token: bool) -> Identity | None:
    """Who asks, by `node`'s certificate (None: no such certificate) and the `identity` of the token.

    None for one that nobody knows, also when a token is given that is wrong or another node's.
    """
    if node is None:
        return identity
    if not has_token:
        return Identity(Role.AGENT, node)
    if identity is None or identity.role is not Role.AGENT:
        return identity
    return replace(identity, scope=node) if identity.speaks_for(node) else None
