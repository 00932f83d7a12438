"""A Debian arm64 Python with LiteRT in a folder: nothing is installed, and nothing outside the folder is changed.

apt-get works with package lists of its own in that folder, for the other architecture, and `dpkg -x` unpacks what it downloads. A file that has been
unpacked once is not fetched again.
"""

import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys

# A user may not mount, unless in a user namespace of their own.
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]

# What CPython, numpy and LiteRT load. python3-minimal says which 3.x this Debian has.
LIBRARIES = ["libc6", "libstdc++6", "libgcc-s1", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1", "libssl3"]
WHEEL_TAGS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"]


class Unavailable(Exception):
    """Something that this machine can't give; the message says what. The emulated tests are then skipped."""


class Debian:
    """Packages of one architecture, unpacked into `root`."""

    def __init__(self, folder: Path, architecture: str):
        self.folder, self.architecture = folder, architecture
        self.root, self.apt = folder / "root", folder / "apt"

    def install(self, packages: list[str]) -> Path:
        """Unpacks the packages that are not there yet and returns the root. Raises: Unavailable."""
        done = self.folder / "unpacked.txt"
        known = set(done.read_text().split()) if done.exists() else set()
        missing = [p for p in packages if p not in known]
        if missing:
            self._update()
            self._apt_get("download", *missing, cwd=self.apt)
            self.root.mkdir(exist_ok=True)
            for archive in sorted(self.apt.glob("*.deb")):
                _run(["dpkg", "-x", str(archive), str(self.root)], f"dpkg can't unpack {archive.name}")
                archive.unlink()
            done.write_text("\n".join(sorted(known | set(missing))))
        return self.root

    def python_version(self) -> str:
        """The 3.x of this Debian, "3.11" say."""
        for path in self.root.glob("usr/bin/python3.*"):
            return path.name.removeprefix("python")
        self._update()
        shown = _run(["apt-cache", *self._options(), "depends", "python3-minimal"], "no package python3-minimal").stdout
        return re.search(r"python(3\.\d+)-minimal", shown)[1]

    def _update(self) -> None:
        if any(self.apt.glob("lists/*_Packages*")):
            return
        for name in ("lists/partial", "archives/partial"):
            (self.apt / name).mkdir(parents=True, exist_ok=True)
        self._apt_get("update")

    def _apt_get(self, *arguments, cwd=None) -> None:
        _run(["apt-get", "-q", *self._options(), *arguments], f"apt-get {arguments[0]} failed for {self.architecture}", cwd=cwd)

    def _options(self) -> list[str]:
        settings = {"APT::Architecture": self.architecture, "APT::Architectures::": self.architecture, "Dir::State::lists": self.apt / "lists",
                    "Dir::Cache": self.apt, "Dir::State::status": "/dev/null", "Debug::NoLocking": "1", "APT::Sandbox::User": "root"}
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def host_debian(cache: Path) -> Debian:
    """Packages of this machine's own architecture, unpacked beside the others, not installed."""
    return Debian(cache / "debian-host", _run(["dpkg", "--print-architecture"], "dpkg does not work").stdout.strip())


def armv7_root(cache: Path) -> Path:
    """The folder with the C library of 32-bit Arm. From the cross compilers' package: every mirror has that. Raises: Unavailable."""
    return host_debian(cache).install(["libc6-armhf-cross"]) / "usr" / "arm-linux-gnueabihf"


def find_qemu(name: str, cache: Path) -> str:
    """The path of a QEMU user emulator: the installed one, else Debian's static one, unpacked into `cache`. Raises: Unavailable."""
    if path := shutil.which(name):
        return path
    if not shutil.which("dpkg") or not shutil.which("apt-get"):
        raise Unavailable(f"{name} is not installed, and this is no Debian from which it could be fetched")
    root = host_debian(cache).install(["qemu-user-static"])
    for candidate in (f"{name}-static", name):
        if (root / "usr/bin" / candidate).exists():
            return str(root / "usr/bin" / candidate)
    raise Unavailable(f"{name} is not in Debian's package qemu-user-static")


def install_wheels(site: Path, version: str, requirements: list[str], processor: str = "aarch64") -> None:
    """Puts wheels for another machine, with what they need, into the folder `site`. Raises: Unavailable."""
    tags = [flag for tag in WHEEL_TAGS for flag in ("--platform", f"{tag}_{processor}")]
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(site), "--only-binary=:all:", "--implementation", "cp",
          "--python-version", version, *tags, *requirements], f"pip can't get {' '.join(Path(r).name for r in requirements)} for {processor}")


def check_host() -> None:
    """Raises: Unavailable: this machine can't run the emulated tests."""
    if platform.system() != "Linux" or platform.machine() == "aarch64":
        raise Unavailable("the emulated tests run on Linux on another processor than a 64-bit Arm; here `make test` tests the real thing"
                          if platform.machine() == "aarch64" else "the emulated tests run on Linux only")
    for tool in ("apt-get", "dpkg", "unshare"):
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is missing: the emulated system is made of Debian's packages")
    _run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/sys/devices/system/cpu"], "a private mount (unshare) is not allowed here")


def _run(command: list[str], reason: str, cwd=None) -> subprocess.CompletedProcess:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{reason}: {lines[-1] if lines else done.returncode}")
    return done
