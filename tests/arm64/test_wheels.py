"""Wheels that were built for other machines: what is in them, and whether the library in them loads where the tag says it does."""

import io
import os
from pathlib import Path
import re
import zipfile

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
import pytest

from tests.arm64.conftest import WHEELS_VARIABLE

WHEELS = sorted(Path(os.environ[WHEELS_VARIABLE]).glob("*.whl"))
LIBRARY = "tflite_smart/delegates/libtflite_smart_delegate.so"
PAGE_BYTES = 16384
MAX_LIBRARY_BYTES = 400_000
# Each is part of glibc: on every system, whatever its compiler.
ALLOWED_LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
ALLOWED_LIBRARIES |= {"ld-linux-aarch64.so.1", "ld-linux-armhf.so.3", "ld-linux-x86-64.so.2"}
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "armv7l": "EM_ARM"}


@pytest.fixture(params=WHEELS, ids=lambda path: path.name)
def wheel(request):
    return request.param


@pytest.fixture
def elf(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return ELFFile(io.BytesIO(archive.read(LIBRARY)))


def test_there_are_wheels():
    assert WHEELS


def test_tag_and_machine(wheel, elf):
    tag = re.fullmatch(r"tflite_smart-[\w.]+-py3-none-manylinux_2_28_(\w+)\.whl", wheel.name)
    assert tag, wheel.name
    assert elf["e_machine"] == MACHINES[tag[1]]


def test_asks_for_no_newer_glibc(elf):
    sections = [section for section in elf.iter_sections() if isinstance(section, GNUVerNeedSection)]
    versions = [vernaux.name for section in sections for _, needed in section.iter_versions() for vernaux in needed]
    assert versions
    numbers = [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in versions if name.startswith("GLIBC_")]
    assert len(numbers) == len(versions), f"symbols of something other than glibc: {versions}"
    assert max(numbers) <= (2, 28)


def test_needs_no_library_but_glibc(elf):
    needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
    assert needed <= ALLOWED_LIBRARIES


def test_exports_only_its_own_names(elf):
    symbols = [s for s in elf.get_section_by_name(".dynsym").iter_symbols() if s["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")]
    exported = [s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF"]
    assert {"tfs_open", "tflite_plugin_create_delegate"} <= set(exported)
    assert [name for name in exported if not name.startswith(("tfs_", "tflite_plugin_"))] == []


def test_segments_lie_on_pages_of_16_kb(elf):
    loads = [segment for segment in elf.iter_segments("PT_LOAD")]
    assert loads
    for segment in loads:
        assert segment["p_align"] >= PAGE_BYTES
        assert (segment["p_vaddr"] - segment["p_offset"]) % PAGE_BYTES == 0


def test_stripped_and_small(elf):
    assert elf.get_section_by_name(".symtab") is None
    elf.stream.seek(0, io.SEEK_END)
    assert elf.stream.tell() <= MAX_LIBRARY_BYTES


def test_holds_the_sources_for_other_machines(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("CMakeLists.txt", "exports.map", "cross_build.py", "include/tflite_smart.h", "core/packed.cc", "kernels/isa.cc", "doors/op.cc",
                 "android/bionic_symbols.txt"):
        assert f"tflite_smart/delegates/{name}" in names
