"""A Qdrant server for tests: Qdrant's own shard engine behind its REST and gRPC interfaces.

The public name is `ServerProcess`, a server in a process of its own.
"""

from .process import ServerProcess

__all__ = ["ServerProcess"]
