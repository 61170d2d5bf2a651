"""Tests that can fail: each planted bug is caught by the experiment that guards its promise."""

import contextlib
import errno
import os
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from PIL import Image, ImageFile
from starlette.responses import PlainTextResponse

from cache import manifests, store
from cache.checks import hdf5_gate, verify
from cache.manifests import checks as manifest_checks
from cache.reader import shard_column
from cache.remotes import base, patience
from cache.sharing import pull, remote_shards
from cache.store import lacking, temporary_names
from cache.writing import checksums, draft, limits, writer
from common.errors import CacheError, MelcacheError
from extract import images
from extract.planning import row_order
from serve import app, form, refusals
from torture.machines import (
    beside,
    bit_rot,
    failing_disk,
    kills,
    lacking_disk,
    many_extractors,
    many_readers,
    power_cuts,
    unlisted_rot,
)
from torture.strangers import (
    bad_numbers,
    bad_pictures,
    strange_files,
    strange_manifests,
    strange_remotes,
    strange_requests,
    strange_run_folders,
    strange_types,
)
from torture.tiny_cache import Result
from train.run_folder import run_files, run_schema

SEED = 7
FEW = {  # of what is odd about remotes
    "FORGED": ("a reason code that is none", "another candidate", "neither true nor false"),
    "TOLD": ("a shard of 2 TB", "8 GB of ids"),
    "CARRIED": ("a byte a second", "no field of that name"),
}


def power(folder):
    return power_cuts.run(folder, 600, SEED)


def rot(folder):
    return bit_rot.run(folder, 400, SEED)


def before_the_manifest(folder):
    return unlisted_rot.run(folder, 20, SEED)


def disk(folder):
    return failing_disk.run(folder, 1, SEED)


def poor(folder):
    return lacking_disk.run(folder, SEED)


def together(folder):
    return many_extractors.run(folder, 2, SEED)


def files(folder):
    return strange_files.run(folder, SEED)


def rows(folder):
    return bad_numbers.run(folder, SEED)


def killed(folder):
    return kills.run(folder, 40, SEED)


def shared(folder):
    return beside.run(folder, 30, SEED)


def mutants(folder):
    return strange_files.mutate(folder, 200, SEED)


def foreign_types(folder):
    return strange_types.run(folder, 100, SEED)


def attacks(folder):
    return strange_manifests.run(folder, SEED)


def fields(folder):
    return strange_manifests.mutate(folder, 200, SEED)


def damaged_pictures(folder):
    return bad_pictures.run(folder, 50, SEED)


def odd(folder):
    return strange_remotes.run(folder, 0, SEED)


def many(folder):
    return many_readers.run(folder, 1, 10, 3_000, SEED)


@contextlib.contextmanager
def descriptor_of(path, flags):
    descriptor = os.open(path, flags, 0o644)
    yield descriptor
    os.close(descriptor)


def runs(folder):
    return strange_run_folders.run(folder, 400, SEED)


def requests(folder):
    return strange_requests.run(folder, 150, SEED)


def no_fsync_of_files(patch):
    def write(descriptor, data, *where):
        while data:
            data = data[os.write(descriptor, data) :]

    patch.setattr(store, "_write", write)


def no_fsync_of_the_folder(patch):
    patch.setattr(store, "sync_directory", lambda folder: None)


def write_in_place(patch):
    def publish(path, data, *, replace):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace and path.exists():
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        half = len(data) // 2
        os.write(descriptor, bytes(data[:half]))
        os.write(descriptor, bytes(data[half:]))
        os.fsync(descriptor)
        os.close(descriptor)
        store.sync_directory(path.parent)
        return True

    patch.setattr(store, "publish", publish)


def rename_before_write(patch):
    real = store.place

    def place(temporary, path, *, replace):
        placed = real(temporary, path, replace=replace)
        descriptor, data = waiting.pop()
        os.write(descriptor, data)
        os.fsync(descriptor)
        return placed

    waiting = []
    patch.setattr(store, "_write", lambda descriptor, data, *where: waiting.append((descriptor, bytes(data))))
    patch.setattr(store, "place", place)


def manifest_first(patch):
    real, waiting = store.publish, []

    def written(path, data):
        with descriptor_of(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            os.write(descriptor, data)
        return path

    def publish(path, data, *, replace):
        if path.name != manifests.NAME:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting.append(written(path, data))
            return True
        real(path, data, replace=replace)
        for shard in waiting:
            with descriptor_of(shard, os.O_WRONLY) as descriptor:
                os.fsync(descriptor)
        waiting.clear()
        return True

    patch.setattr(store, "publish", publish)


def one_temporary_name(patch):
    shared = temporary_names.TemporaryName.new()
    patch.setattr(temporary_names.TemporaryName, "new", lambda content="": replace(shared, content=content[:16]))


def temporaries_of_the_living_are_swept(patch):
    patch.setattr(temporary_names, "abandoned", lambda path: True)


def a_pid_is_the_same_everywhere(patch):
    patch.setattr(temporary_names, "_here", lambda: temporary_names.Home("host", "0" * 12, "1"))


def trust_existence(patch):
    def adopt(plan, folder):
        path = folder / plan.file
        if not path.exists():
            return None
        data = path.read_bytes()
        _, offsets = writer._build({n: writer.np.zeros((plan.rows, *s), d) for n, (d, s) in plan.part.columns.items()})
        padded = data.ljust(1 << 16, b"\0")
        return writer._entry(plan, padded, offsets) | {"bytes": len(data)}

    write_in_place(patch)  # what is there may be half
    patch.setattr(draft, "adopt", adopt)


def trust_the_layout_of_shards(patch):
    patch.setattr(checksums, "known", lambda folder, file, sha256: True)


def forget_at_once(patch):
    patch.setattr(checksums, "note", lambda folder, file, sha256: None)


def skip_sha256(patch):
    patch.setattr(verify, "_problem", lambda path, size, sha256: "")


def skip_xxh3(patch):
    patch.setattr(shard_column.ShardColumn, "_compare", lambda *arguments: None)


def skip_the_manifests_digest(patch):
    def load(folder):
        if not (folder / manifests.NAME).exists():
            raise CacheError("none")
        found = manifests.parse((folder / manifests.NAME).read_bytes(), "here")
        manifests.check(found, "here")
        return manifests.Manifest.of(found)

    patch.setattr(manifests, "load", load)


def follow_links(patch):
    @contextlib.contextmanager
    def open_regular(path):
        descriptor = os.open(path, os.O_RDONLY)
        yield descriptor
        os.close(descriptor)

    patch.setattr(strange_files, "MISPLACED", ("symlink",))  # a FIFO would block for ever
    patch.setattr(store, "open_regular", open_regular)
    patch.setattr(verify.store, "open_regular", open_regular)
    patch.setattr(Path, "lstat", Path.stat)


def let_every_structure_pass(patch):
    patch.setattr(hdf5_gate, "_ask", lambda wanted: [(item["file"], "") for item in wanted])


def swallow_a_full_disk(patch):
    real = store._write

    def write(descriptor, data, *where):
        with contextlib.suppress(OSError):
            real(descriptor, data, *where)

    patch.setattr(store, "_write", write)


def keep_temporaries_after_errors(patch):
    patch.setattr(store, "_removed_on_error", contextlib.nullcontext)


def write_once(patch):
    def write(descriptor, data, *where):
        os.write(descriptor, data)
        os.fsync(descriptor)

    patch.setattr(store, "_write", write)


def every_file_system_has_everything(patch):
    patch.setattr(lacking, "NO_SYNC", ())
    patch.setattr(lacking, "NO_SYNC_OF_DIRECTORIES", ())


def links_fail_in_three_ways(patch):
    def link(source, target):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            lacking.warn("links", target.parent)
            return False
        return True

    patch.setattr(lacking, "link", link)


def a_failing_disk_lacks_fsync(patch):
    patch.setattr(lacking, "NO_SYNC", tuple(errno.errorcode))
    patch.setattr(lacking, "NO_SYNC_OF_DIRECTORIES", tuple(errno.errorcode))


def each_file_warns(patch):
    patch.setattr(lacking, "warn", lambda what, where: lacking.say(what))


def unchecked_half(patch):
    def put(self, column, rows, values):
        with writer.np.errstate(all="ignore"):
            self._arrays[column][rows] = writer.np.asarray(values)
        self._written[column][rows] = True

    patch.setattr(writer.Shard, "put", put)


def join_by_position(patch):
    real = writer.Shard.put

    def put(self, column, rows, values):
        real(self, column, writer.np.sort(rows), values)

    patch.setattr(writer.Shard, "put", put)


def nothing_is_swept(patch):
    patch.setattr(store, "sweep", lambda folder, **given: 0)


def errors_of_reading_escape(patch):
    def read_regular(path, limit=None):
        with store.open_regular(path) as descriptor:
            return os.read(descriptor, 1 << 24)

    patch.setattr(store, "read_regular", read_regular)
    patch.setattr(failing_disk, "READS", ("read",))
    patch.setattr(failing_disk, "WRITES", ("mkdir",))


def pull_trusts_strangers(patch):
    patch.setattr(pull, "refuse_strange", lambda folder, found: None)


def the_gate_reads(patch):
    def problem(path, columns):
        try:
            with h5py.File(path) as file:
                return " ".join(str(file[name][:]) for name in columns)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError):
            return "no"

    patch.setattr(hdf5_gate, "problem", problem)


def numpy_names_the_types(patch):
    real = hdf5_gate._dataset
    patch.setattr(hdf5_gate, "_dataset", lambda *given: "" if "of its own" in (found := real(*given)) else found)


def manifests_are_not_checked(patch):
    patch.setattr(strange_manifests, "BYTES", {})
    patch.setattr(manifests, "check", lambda found, where: None)


def manifests_without_bounds(patch):
    patch.setattr(manifest_checks, "MAX_SIGNS", 1 << 20)
    patch.setattr(strange_manifests, "SECONDS", 0.3)  # it takes 2, a manifest within bounds 0.4 at the most
    patch.setattr(strange_manifests, "TRIES", 1)
    patch.setattr(strange_manifests, "BYTES", {"keys": strange_manifests.BYTES["keys"]})
    patch.setattr(strange_manifests, "ATTACKS", {})


def fields_are_not_checked(patch):
    patch.setattr(manifest_checks, "check_fields", lambda *given: None)


def half_pictures_pass(patch):
    patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def bombs_are_decoded(patch):
    name = "bomb-102-megapixels.png"
    bomb = bad_pictures.corpus()[name]
    patch.setattr(bad_pictures, "corpus", lambda: {name: bomb})
    patch.setattr(images, "MAX_PIXELS", 1 << 40)
    patch.setattr(Image, "MAX_IMAGE_PIXELS", None)


def damage_is_an_error(patch):
    patch.setattr(images, "_DAMAGE", (OSError,))


def any_value_is_taken(patch):
    patch.setattr(limits, "problem", lambda shard, entry, column: "")
    patch.setattr(draft.Draft, "examine", lambda self, problem: None)


def sizes_are_believed(patch):
    patch.setattr(writer.ShardPlan, "most_bytes", property(lambda plan: 1 << 60))


def orders_are_believed(patch):
    real = remote_shards.column
    patch.setattr(store, "_hollow", lambda descriptor: False)  # a store elsewhere does not say what is a hole
    patch.setattr(row_order, "worth", lambda *given: True)
    patch.setattr(remote_shards, "column", lambda remote, told, name, largest: real(remote, told, name, 1 << 60))


def a_drip_is_awaited(patch):
    patch.setattr(patience.Patience, "came", lambda self, count=0: 60.0)


def strange_answers_escape(patch):
    patch.setattr(base, "STRANGE", ())


def readers_copy(patch):
    real = shard_column.ShardColumn.map
    patch.setattr(shard_column.ShardColumn, "map", lambda *given, **more: real(*given, **more).copy())


def weights_without_checksums(patch):
    def bytes_of(self, name):
        return self._read(self.stored[name].begin, self.stored[name].stop)

    patch.setattr(run_files.TensorFile, "bytes_of", bytes_of)


def checkpoints_without_a_digest(patch):
    patch.setattr(run_files, "_digest", lambda texts, layout: "0" * 64)


def results_without_a_digest(patch):
    def read_json(path):
        with run_files.naming(path):
            return manifests.parse(path.read_bytes(), str(path))

    patch.setattr(run_files, "read_json", read_json)


def results_of_any_type(patch):
    for name in ("valid", "test", "ties", "seconds"):
        patch.setitem(run_schema._SEED, name, lambda value: True)


def what_lies_beside_is_believed(patch):
    patch.setattr(checksums, "known", lambda folder, file, sha256: True)


def what_lies_beside_is_moved(patch):
    def link(source, target, what="links"):
        if what == "links":
            return real(source, target)
        source.rename(target)
        return True

    real = lacking.link
    patch.setattr(lacking, "link", link)


def paths_are_told(patch):
    patch.setattr(app, "QuestionError", MelcacheError)


def forms_are_believed(patch):
    patch.setattr(form, "MultiPartException", KeyError)


def refusals_are_words(patch):
    patch.setattr(
        refusals, "JSONResponse", lambda told, status, headers: PlainTextResponse(told["error"], status, headers)
    )


class CaughtError(Exception):
    """The first failure that an experiment has found: the rest of it would cost time and tell nothing."""


def caught(self, what):
    raise CaughtError(what)


SABOTAGES = {
    no_fsync_of_files: power,
    no_fsync_of_the_folder: power,
    write_in_place: power,
    rename_before_write: power,
    manifest_first: power,
    one_temporary_name: together,
    temporaries_of_the_living_are_swept: together,
    a_pid_is_the_same_everywhere: together,
    trust_existence: killed,
    what_lies_beside_is_believed: shared,
    what_lies_beside_is_moved: shared,
    trust_the_layout_of_shards: before_the_manifest,
    forget_at_once: killed,
    skip_sha256: rot,
    skip_xxh3: rot,
    skip_the_manifests_digest: rot,
    follow_links: files,
    let_every_structure_pass: files,
    swallow_a_full_disk: disk,
    keep_temporaries_after_errors: disk,
    write_once: disk,
    every_file_system_has_everything: poor,
    links_fail_in_three_ways: poor,
    a_failing_disk_lacks_fsync: poor,
    each_file_warns: poor,
    unchecked_half: rows,
    join_by_position: rows,
    nothing_is_swept: killed,
    errors_of_reading_escape: disk,
    pull_trusts_strangers: files,
    the_gate_reads: mutants,
    numpy_names_the_types: foreign_types,
    manifests_are_not_checked: attacks,
    manifests_without_bounds: attacks,
    fields_are_not_checked: fields,
    half_pictures_pass: damaged_pictures,
    bombs_are_decoded: damaged_pictures,
    damage_is_an_error: damaged_pictures,
    readers_copy: many,
    weights_without_checksums: runs,
    checkpoints_without_a_digest: runs,
    results_without_a_digest: runs,
    results_of_any_type: runs,
    any_value_is_taken: odd,
    sizes_are_believed: odd,
    orders_are_believed: odd,
    a_drip_is_awaited: odd,
    strange_answers_escape: odd,
    paths_are_told: requests,
    forms_are_believed: requests,
    refusals_are_words: requests,
}


def make_few(patch):
    """Let experiments try a few cases of each kind."""
    patch.setattr(bit_rot, "WHOLE", 2)
    patch.setattr(power_cuts, "MOST", 5)  # so that 600 states are of three extractions
    patch.setattr(failing_disk, "PULLS", ("pwrite",))
    patch.setattr(failing_disk, "READS", ())
    for module in (strange_files, strange_remotes):
        patch.setattr(module, "SECONDS", 60)
    patch.setattr(lacking_disk, "SAID", {what: errors[-1:] for what, errors in lacking_disk.SAID.items()})
    tricks = ("external_storage", "external_link", "compressed")
    patch.setattr(strange_files, "TRICKS", {name: strange_files.TRICKS[name] for name in tricks})
    for name, few in FEW.items():
        patch.setattr(strange_remotes, name, {one: getattr(strange_remotes, name)[one] for one in few})


def notices(sabotage, folder):
    """Whether the experiment of a planted bug fails."""
    with pytest.MonkeyPatch.context() as patch:
        make_few(patch)
        sabotage(patch)
        if SABOTAGES[sabotage] not in (together, killed, shared, many):  # which have children to wait for
            patch.setattr(Result, "fail", caught)
        try:
            return bool(SABOTAGES[sabotage](folder).failures)
        except CaughtError:
            return True
        except AssertionError as error:  # an extraction that failed outright
            return "status" in str(error)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_a_planted_bug_is_caught(sabotage, tmp_path, small_process):
    assert small_process(notices, sabotage, tmp_path)
