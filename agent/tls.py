"""The agent's end of https:. Files are read anew when they have changed."""

from __future__ import annotations

import os
import ssl

from agent.config import Tls


class ClientTls:
    """`files` None: nobody in particular, who believes whom this machine believes."""

    def __init__(self, files: Tls | None) -> None:
        self._files = files
        self._seen: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    @property
    def is_changed(self) -> bool:
        """What `context` returned last is not what the files say by now."""
        return self._context is not None and self._state() != self._seen

    def context(self) -> ssl.SSLContext:
        """As long as new files cannot be used (the key is not there yet, say) the one before. Raises OSError."""
        state = self._state()
        if self._context is None or state != self._seen:
            try:
                self._context = self._read()
            except OSError:
                if self._context is None:
                    raise
            else:
                self._seen = state
        return self._context

    def _read(self) -> ssl.SSLContext:
        if self._files is None:
            return ssl.create_default_context()
        context = ssl.create_default_context(cafile=self._files.api_ca)
        context.load_cert_chain(self._files.certificate, self._files.key)
        return context

    def _state(self) -> tuple[int, ...]:
        files = self._files
        return () if files is None else tuple(map(_changed_at, (files.certificate, files.key, files.api_ca)))


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
