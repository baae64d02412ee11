from __future__ import annotations

import os
from pathlib import Path

import pytest

from raffect.errors import SettingsError
from raffect.inputs import read_input, reason_of
from raffect.settings import MOST_YAML_BYTES, read_yaml


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def refused(path: Path, most: int = 100) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_input(path, most)
    return reason_of(caught.value)


def test_content_up_to_the_size_is_read(path: Path) -> None:
    path.write_bytes(b"x" * 100)
    assert read_input(path, 100) == b"x" * 100
    link = path.with_name("link")
    link.symlink_to(path)
    assert read_input(link, 100) == b"x" * 100
    assert refused(path, 99) == "it has 100 bytes, and 99 are the most that make sense"
    os.truncate(path, 2**43)
    assert "8,796,093,022,208 bytes" in refused(path)


def test_what_is_no_file_is_never_opened(path: Path) -> None:
    os.mkfifo(path)
    for other in (path, Path("/dev/zero"), Path("/dev/null")):
        assert refused(other) == "it is a pipe, a socket or a device, not a file"
    assert refused(path.parent) == "it is a folder, not a file"


def test_links_to_nowhere_and_absent_files(path: Path) -> None:
    assert refused(path) == "there is no such file"
    path.symlink_to("nowhere")
    assert refused(path) == "it is a link to nowhere, which is not there"
    loop = path.with_name("loop")
    loop.symlink_to(loop)
    assert refused(loop) == "Too many levels of symbolic links"


def test_a_file_of_proc_has_no_size() -> None:
    assert "longer than the file system says" in refused(Path("/proc/self/status"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_from_what_is_no_text(path: Path, encoding: str) -> None:
    path.write_bytes("valence,arousal\r\n0,0\r\n".encode(encoding))
    assert refused(path) == "it is UTF-16; save it as UTF-8"
    path.write_bytes(b"valence,arousal\n0,0\n" + b"\0" * 40)
    assert refused(path) == "it holds NUL bytes: it is no text"


def test_settings_are_read_alike(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert read_yaml(path) == {"a": 1}
    os.truncate(path, MOST_YAML_BYTES + 1)
    with pytest.raises(SettingsError, match="most that make sense"):
        read_yaml(path)
    with pytest.raises(SettingsError, match="a device"):
        read_yaml(Path("/dev/zero"))
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(SettingsError, match="can't be read as YAML"):
        read_yaml(path)
