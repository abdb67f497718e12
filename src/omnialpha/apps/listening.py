"""A socket to listen on, opened before anything slow begins."""

import socket

from omnialpha.errors import OutputError


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket: a port in use is found, and early visitors wait, before the server has started.

    Args:
        host: Name or address.
        port: 0 for any free one.

    Raises:
        OutputError: The port is taken, or the host is none of this machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise OutputError(
            f"cannot listen on {host}, port {port} ({reason}); choose another --port or --host"
        ) from error
    return listener
