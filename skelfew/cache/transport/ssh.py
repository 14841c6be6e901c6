"""ssh addresses: paramiko with the user's own ssh configuration and known hosts."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from skelfew.cache.format.checks import CacheError, brief
from skelfew.io.files import Document

_SECONDS = 30


class _KnownHosts(SFTPFileSystem):
    """fsspec's SFTP, but it talks to hosts in ~/.ssh/known_hosts only."""

    protocol = "skelfew-ssh"

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.client.connect(self.host, **self.ssh_kwargs)
        self.ftp = self.client.open_sftp()

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **more: Any) -> None:
        self.mkdirs(self._parent(rpath), exist_ok=True)
        self.ftp.put(lpath, rpath, lambda done, of: callback.absolute_update(done))


def open_ssh(address: str) -> Any:
    """Return the file system of ``ssh://[user@]host[:port]/path``; CacheError if refused.

    Host may be an alias of ~/.ssh/config, whose HostName, User, Port and IdentityFile count; keys
    come from there, the usual files and the agent. A password is never asked for.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    known = _configured(host)
    name = str(known.get("hostname", host))
    arguments: Document = {
        "port": parts.port or int(known.get("port", 22)),
        "username": unquote(parts.username) if parts.username else known.get("user"),
        "key_filename": known.get("identityfile"),
        "timeout": _SECONDS,
    }
    if parts.password:
        arguments["password"] = unquote(parts.password)
    try:
        return _KnownHosts(name, **arguments, skip_instance_cache=True)
    except paramiko.BadHostKeyException:
        raise CacheError(
            f"{parts.scheme}://{host}: its key is not the one in ~/.ssh/known_hosts; ask its "
            "administrator before anything else"
        ) from None
    except paramiko.AuthenticationException as error:
        raise CacheError(
            f"{parts.scheme}://{host}: refuses the login ({brief(error)}); try `ssh {host}` first"
        ) from None
    except paramiko.SSHException as error:
        raise CacheError(
            f"{parts.scheme}://{host}: {brief(error)}; if the host is new to you, connect once "
            f"with `ssh {host}` and compare its fingerprint"
        ) from None


def _configured(host: str) -> Document:
    file = Path.home() / ".ssh" / "config"
    if not file.is_file():
        return {}
    return dict(paramiko.SSHConfig.from_path(str(file)).lookup(host))
