"""An arm64 Debian's Python with the peers' wheels, which runs under qemu-aarch64: in a folder, without being installed.

`apt-get` fetches packages of the release that this machine runs, with lists of its own below the folder, so that
neither root nor a change of the system is needed. What is measured comes from the wheels, whose versions are pinned;
of the packages only Python and the C library are used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PYTHON = "python3.11"
PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g",
    "libexpat1", "libbz2-1.0", "liblzma5", "libffi8", "libssl3", "libsqlite3-0", "libuuid1", "libgomp1", "libcrypt1",
)  # fmt: skip
WHEELS = {
    "onnxruntime": "1.31.1",
    "ai-edge-litert": "2.3.0",
    "ncnn": "1.0.20261020",
    "numpy": "2.4.6",
    "flatbuffers": "25.12.19",
    "protobuf": "7.36.2",
    "packaging": "26.3",
    "ml_dtypes": "0.6.0",
    "tqdm": "4.70.1",
    "backports.strenum": "1.2.8",
}
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 34)] + ["manylinux2014_aarch64"]
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"
PROCESSOR = (
    "processor\t: {n}\nBogoMIPS\t: 50.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n"
)
"""What /proc/cpuinfo tells of a Neoverse N1: onnxruntime reads it, and does not survive that of another processor."""


def ensure(cache: Path) -> Path:
    """The folder, made unless it is there: `root` is the file system, `site` what the wheels hold."""
    home = cache / "arm64"
    if (home / "complete").exists():
        return home
    print(f"creating {home}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    _unpack_packages(home)
    _unpack_wheels(home)
    proc = home / "root" / "proc"
    proc.mkdir()
    (proc / "cpuinfo").write_text("".join(PROCESSOR.format(n=n, features=FEATURES) for n in range(2)))
    (home / "complete").touch()
    return home


def command(home: Path) -> tuple[list[str], list[str]]:
    """Flags of the emulator, and the interpreter with its own."""
    root, site = home / "root", home / "site"
    libraries = f"{root}/usr/lib/aarch64-linux-gnu:{root}/lib/aarch64-linux-gnu"
    environment = {
        "LD_LIBRARY_PATH": libraries,
        "PYTHONHOME": f"{root}/usr",
        "PYTHONPATH": str(site),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    flags = ["-L", str(root)]
    for name, value in environment.items():
        flags += ["-E", f"{name}={value}"]
    return flags, [f"{root}/usr/bin/{PYTHON}", "-S"]


def _unpack_packages(home: Path) -> None:
    state, archives, debs = home / "apt" / "state", home / "apt" / "cache" / "archives", home / "debs"
    for folder in (state / "lists" / "partial", archives / "partial", debs, home / "root"):
        folder.mkdir(parents=True)
    status = home / "apt" / "status"
    status.touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": str(state),
        "Dir::State::status": str(status),
        "Dir::Cache": str(archives.parent),
    }
    apt = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *PACKAGES], check=True, cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(home / "root")], check=True)


def _unpack_wheels(home: Path) -> None:
    wheels = home / "wheels"
    pins = [f"{name}=={version}" for name, version in WHEELS.items()]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", *platforms, "-d", str(wheels)]
    subprocess.run([sys.executable, "-m", "pip", "download", *flags, *pins], check=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(home / "site")
