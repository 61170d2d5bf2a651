"""Signatures of caches, with the SSH keys that people have: by ssh-keygen, over the cache id.

The id stands for every byte of data, so one signature serves every copy of a cache, whole or in parts, whoever made
it when. By hand: `echo ID | ssh-keygen -Y verify -f SIGNERS -I WHO -n melcache -s manifests/ID.sig`.
"""

import subprocess
import tempfile
from pathlib import Path

from cache import manifests, partial_cache, store
from cache.remotes.base import Remote, SlowError
from common.errors import CacheError, ConfigError
from common.paths import denied, is_file

NAMESPACE = "melcache"
SIGNATURE_BYTES = 1 << 16


def sign(folder: Path, key: Path) -> Path:
    """Sign the id of a cache with a private key and return the signature's path.  Raises CacheError."""
    identity = partial_cache.whole_manifest(folder, manifests.load(folder)).id
    if not is_file(key):
        raise ConfigError(f"there is no key {key}. Give one with --key, or make one: ssh-keygen -t ed25519")
    try:
        open(key, "rb").close()  # ssh-keygen would say that there is none
    except OSError as error:
        raise denied("open", key, error) from error
    done = _run(["-Y", "sign", "-f", str(key), "-n", NAMESPACE], identity)
    if done.returncode:
        raise CacheError(f"cannot sign with {key}: {_last_line(done)}")
    path = folder / manifests.signature_of(identity)
    store.publish(path, done.stdout, replace=True)
    return path


def verify(identity: str, signature: bytes | None, signers: Path, where: str) -> str:
    """Return who signed a cache id.  `signers` is a file as ssh-keygen's ALLOWED SIGNERS.

    Raises CacheError for no signature, one of another id, or one by a key that is not among the signers.
    """
    check_signers(signers)
    if signature is None:
        raise CacheError(
            f"{where} is not signed: no signature of {identity[:16]}... Whoever made it can sign it: melcache sign"
        )
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signature)
        file.flush()
        found = _run(["-Y", "find-principals", "-f", str(signers), "-s", file.name], identity)
        if found.returncode or not found.stdout.strip():
            raise CacheError(
                f"{where} is signed by a key that is not in {signers}; trust it only if you know whose it is"
            )
        who = found.stdout.decode(errors="replace").splitlines()[0].strip()
        arguments = ["-Y", "verify", "-f", str(signers), "-I", who, "-n", NAMESPACE, "-s", file.name]
        done = _run(arguments, identity)
    if done.returncode:
        raise CacheError(f"the signature of {where} does not match cache {identity[:16]}...: {_last_line(done)}")
    return who


def check_signers(signers: Path) -> None:
    """Raise ConfigError for what is no file as ssh-keygen's ALLOWED SIGNERS."""
    if not is_file(signers):
        raise ConfigError(f"there is no file {signers} of trusted signers (man ssh-keygen: ALLOWED SIGNERS)")
    if store.read_regular(signers, SIGNATURE_BYTES).startswith((b"ssh-", b"ecdsa-", b"sk-")):
        raise ConfigError(
            f"{signers} is a key without a name; expected lines such as: alice@example.org ssh-ed25519 AAAA..."
        )


def of_folder(folder: Path, signers: Path) -> str:
    """Return who signed the cache in a folder.  Raises CacheError as `verify` does."""
    identity = partial_cache.whole_manifest(folder, manifests.load(folder)).id
    path = folder / manifests.signature_of(identity)
    signature = store.read_regular(path, SIGNATURE_BYTES) if is_file(path) else None
    return verify(identity, signature, signers, str(folder))


def of_remote(remote: Remote, identity: str) -> bytes | None:
    """Return the signature of a cache id at a remote, None where none is to be had.  Raises SlowError."""
    try:
        return remote.read(manifests.signature_of(identity), SIGNATURE_BYTES)
    except SlowError:  # so will the others be
        raise
    except CacheError:  # a store may answer "forbidden" for what is not there
        return None


def _run(arguments: list[str], identity: str) -> subprocess.CompletedProcess[bytes]:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments], input=f"{identity}\n".encode(), capture_output=True, check=False
        )
    except FileNotFoundError:
        raise ConfigError("signatures need ssh-keygen: install OpenSSH") from None
    if b"No user exists for uid" in done.stderr:  # it says so of any signature, be it a good one
        raise ConfigError(
            f"ssh-keygen checks no signature here: {_last_line(done)}. Run this as a user that has a name, or give "
            "this one a line in /etc/passwd"
        )
    return done


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with {done.returncode}"
