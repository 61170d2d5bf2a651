"""Files and folders that commands write where a person says: what they may replace, and what is in the way."""

import os

import pytest

from common.errors import ConfigError, DeniedError
from common.paths import check_output, make_folder


def test_a_new_file_and_one_that_was_written_before_are_taken(tmp_path):
    (tmp_path / "before").write_text("x")
    for name in ("new", "before", "absent/new"):
        check_output(tmp_path / name, "--out", None, tmp_path / "absent")


def test_what_is_no_file_of_its_own_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    for name, said in (("pipe", "no regular file"), ("folder", "no regular file"), ("link", "a link")):
        with pytest.raises(ConfigError, match=f"^--out .*{name}: {said} has that name"):
            check_output(tmp_path / name, "--out")


def test_what_is_read_is_not_replaced_whatever_it_is_called(tmp_path):
    (tmp_path / "answers").write_text("x")
    os.link(tmp_path / "answers", tmp_path / "same")
    with pytest.raises(ConfigError, match=r"--qrels .*same would replace .*answers, which is read"):
        check_output(tmp_path / "same", "--qrels", None, tmp_path / "answers")


def test_a_folder_that_cannot_be_made_is_told_in_a_line(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "file/below"):
        with pytest.raises(DeniedError, match=f"cannot make the folder .*{name}: "):
            make_folder(tmp_path / name)
