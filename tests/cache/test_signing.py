"""Signatures with real SSH keys: by ssh-keygen, over the cache id, for whole caches and their parts."""

import json
import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from cache import manifests, partial_cache
from cache.cli import app
from cache.remotes.folder import Folder
from cache.sharing import pull, push, signing, tar
from common.errors import CacheError, ConfigError
from extract.config import ExtractConfig
from extract.remote import Shared
from torture import tiny_cache

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen of OpenSSH")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with the keys `alice` and `mallory`, and `signers`, which trusts alice alone."""
    place = tmp_path_factory.mktemp("keys")
    for who in ("alice", "mallory"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(place / who)]
        subprocess.run(made, check=True, timeout=600)
    public = (place / "alice.pub").read_text()
    (place / "signers").write_text(f'alice@example.org namespaces="melcache" {public}')
    (place / "files").write_text(f'alice@example.org namespaces="file" {public}')
    return place


@pytest.fixture
def toy(toy_cache, tmp_path):
    return shutil.copytree(toy_cache, tmp_path / "ours/toy")


@pytest.fixture
def remote(tmp_path):
    return tmp_path / "team/toy"


def melcache(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_signed_cache_is_verified_here_and_there_whole_and_in_parts(toy, keys, remote, tmp_path):
    done = melcache("sign", toy, "--key", keys / "alice")
    assert done.exit_code == 0 and "signed" in done.stdout
    assert "signed by alice@example.org" in melcache("verify", toy, "--signers", keys / "signers").stderr
    push.push(toy, str(remote))
    here = tmp_path / "here/toy"
    pulled = pull.pull(here, str(remote), heads="bert", signers=keys / "signers")
    assert pulled.signer == "alice@example.org" and "signed by alice@example.org" in str(pulled)
    checked = melcache("verify", here, "--require-signed", "--signers", keys / "signers")
    assert checked.exit_code == 0 and "ok" in checked.stdout


def test_a_user_without_a_name_is_told_and_no_signature_called_bad(toy, keys, monkeypatch):
    signing.sign(toy, keys / "alice")
    said = subprocess.CompletedProcess([], 255, b"", b"No user exists for uid 54321\r\n")
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: said)
    for work in (lambda: signing.sign(toy, keys / "alice"), lambda: signing.of_folder(toy, keys / "signers")):
        with pytest.raises(ConfigError, match=r"no signature here: No user exists for uid 54321\. Run this as a user"):
            work()


def test_the_signature_can_be_checked_by_hand(toy, keys):
    path = signing.sign(toy, keys / "alice")
    by_hand = ["ssh-keygen", "-Y", "verify", "-f", keys / "signers", "-I", "alice@example.org", "-n", "melcache"]
    identity = manifests.load(toy).id
    for line, good in ((identity, True), ("0" * 64, False)):
        done = subprocess.run([*by_hand, "-s", path], input=f"{line}\n", capture_output=True, text=True, timeout=600)
        assert (done.returncode == 0) == good


def test_unsigned_foreign_and_moved_signatures_are_refused_before_any_shard(toy, keys, remote, tmp_path, monkeypatch):
    here, signers = tmp_path / "here/toy", keys / "signers"
    monkeypatch.setattr(Folder, "block", None)  # taking a shard would fail otherwise

    def refused(message, error=CacheError):
        with pytest.raises(error, match=message) as caught:
            pull.pull(here, str(remote), signers=signers)
        assert "\n" not in str(caught.value) and not here.exists()

    push.push(toy, str(remote))
    refused(r"is not signed: no signature of .*Whoever made it can sign it: melcache sign")
    signing.sign(toy, keys / "mallory")
    assert push.push(toy, str(remote)).news == ("signature",)
    refused(r"is signed by a key that is not in .*signers")
    old = signing.sign(toy, keys / "alice").read_bytes()
    found = manifests.load(toy).as_json()
    found["warnings"].append("changed")
    sealed = manifests.seal(found)
    (toy / "manifest.json").write_bytes(manifests.written(sealed))
    (toy / manifests.signature_of(sealed["id"])).write_bytes(old)  # alice's, of what the cache was before
    push.push(toy, str(remote), replace=True)
    refused(rf"the signature of .* does not match cache {sealed['id'][:16]}")
    for bad in (b"", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n", b"\0" * 100):
        (remote / manifests.signature_of(sealed["id"])).write_bytes(bad)
        refused(r"is signed by a key that is not in|does not match")


def test_a_key_that_may_sign_other_things_only_is_refused(toy, keys):
    signing.sign(toy, keys / "alice")
    with pytest.raises(CacheError, match=r"does not match cache|not in"):
        signing.of_folder(toy, keys / "files")


def test_a_changed_part_does_not_pass_as_one_of_the_signed_cache(toy, keys, remote, tmp_path):
    signing.sign(toy, keys / "alice")
    push.push(toy, str(remote))
    here = tmp_path / "here/toy"
    pull.pull(here, str(remote), heads="bert")
    found = json.loads((here / "manifest.json").read_text())
    found["shards"][0]["sha256"] = "0" * 64
    (here / "manifest.json").write_bytes(manifests.written(manifests.seal(found)))
    with pytest.raises(CacheError, match="is not a part of"):
        signing.of_folder(here, keys / "signers")


def test_mistakes_are_one_line(toy, keys, tmp_path):
    for error, message, action in (
        (ConfigError, "there is no key .*ssh-keygen -t ed25519", lambda: signing.sign(toy, tmp_path / "none")),
        (CacheError, "cannot sign with", lambda: signing.sign(toy, keys / "signers")),
        (
            ConfigError,
            "there is no file .*none of trusted signers",
            lambda: signing.of_folder(toy, tmp_path / "none"),
        ),
        (CacheError, "is not signed", lambda: signing.of_folder(toy, keys / "signers")),
    ):
        with pytest.raises(error, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
    assert "--require-signed needs --signers FILE" in melcache("verify", toy, "--require-signed").stderr


def test_a_public_key_is_no_file_of_signers(toy, keys):
    signing.sign(toy, keys / "alice")
    with pytest.raises(ConfigError, match=r"alice\.pub is a key without a name; expected lines such as: alice@example"):
        signing.of_folder(toy, keys / "alice.pub")


def test_a_tar_is_taken_where_it_is_the_cache_that_is_expected_and_signed(toy, keys, remote, tmp_path):
    here, signed, part, plain = (tmp_path / name for name in ("here", "signed.tar", "part.tar", "plain.tar"))
    whole = melcache_id(toy)
    tar.export(toy, plain)
    signing.sign(toy, keys / "alice")
    tar.export(toy, signed)
    push.push(toy, str(remote))
    pull.pull(tmp_path / "part", str(remote), heads="bert")
    tar.export(tmp_path / "part", part)
    want = ["--name", here, "--id", whole, "--require-signed", "--signers"]
    for file, signers, error in (
        (plain, "signers", "is not signed: no signature of"),
        (signed, "files", "does not match|is signed by a key that is not in"),
    ):
        said = melcache("import", "--from", "tar", file, *want, keys / signers)
        assert said.exit_code == 2 and re.search(error, said.stderr)
        assert not here.exists()
    for file in (signed, part):
        done = melcache("import", "--from", "tar", file, *want, keys / "signers")
        assert (
            done.exit_code == 0 and f"cache id {whole}" in done.stdout and "signed by alice@example.org" in done.stdout
        )
        assert melcache_id(here) == whole
        shutil.rmtree(here)
    for file, identity in ((signed, "0" * 64), (part, manifests.load(tmp_path / "part").id)):
        with pytest.raises(CacheError, match=f"holds cache {whole}, not {identity}"):
            tar.take(file, here, identity=identity)
        assert not here.exists()
    for given in (["--id", whole], ["--require-signed", "--signers", keys / "signers"]):
        said = melcache("import", "--from", "drin", tmp_path, "--name", "x", *given).stderr
        assert said.startswith("error: --id, --require-signed and --signers are for --from tar")
    for identity in ("", "abc", whole.upper()):  # an empty variable asks for nothing only by mistake
        assert "64 hex digits" in melcache("import", "--from", "tar", part, "--id", identity).stderr
        assert "64 hex digits" in melcache("pull", "toy", remote, "--id", identity).stderr


def melcache_id(folder):
    return partial_cache.whole_manifest(folder, manifests.load(folder)).id


def test_an_extraction_takes_what_is_signed_and_computes_the_rest(keys, remote, tmp_path, capsys):
    folder, plans = tmp_path / "made/toy", [[shard.plan for shard in tiny_cache.shards(seed)] for seed in (1, 2)]

    def asked():
        given = {"remote": str(remote), "signers": keys / "signers", "require_signed": True}
        found = Shared(ExtractConfig(dataset="jsonl", shards=tmp_path, name="toy", **given))
        said = capsys.readouterr().err
        return found.manifest and found.manifest.id, [len(found.offers(of)) for of in plans], said

    tiny_cache.build(folder, 1)
    push.push(folder, str(remote))
    nothing, offers, said = asked()
    assert nothing is None and offers == [0, 0]
    assert "is not signed: no signature of" in said and "None of its files are used" in said
    for who, taken in (("mallory", 0), ("alice", len(plans[0]))):
        signing.sign(folder, keys / who)
        push.push(folder, str(remote))
        identity, offers, said = asked()
        assert offers == [taken, 0] and (identity is None) == (who == "mallory")
        assert ("is signed by alice@example.org" if taken else "is signed by a key that is not in") in said
    other = tmp_path / "other/toy"
    tiny_cache.build(other, 2)
    push.push(other, str(remote), replace=True)  # unsigned: the one before it still counts
    nothing, offers, said = asked()
    assert nothing is None and offers == [len(plans[0]), 0]


def test_signers_that_cannot_be_are_refused_before_anything_is_asked(keys, remote, tmp_path):
    known = {"dataset": "jsonl", "shards": tmp_path, "remote": str(remote)}
    for given, message in (
        ({"require_signed": True}, "--require-signed needs --signers FILE"),
        ({"signers": keys / "signers", "remote": ""}, "--signers applies to a remote: add --remote URL"),
        ({"signers": tmp_path / "nobody"}, "there is no file"),
        ({"signers": keys / "alice.pub"}, "is a key without a name"),
    ):
        with pytest.raises(ConfigError, match=message):
            Shared(ExtractConfig(**known | given))
