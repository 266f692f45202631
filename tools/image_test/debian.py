"""A Debian arm64 system that stands in for Raspberry Pi OS, made from Debian packages only.

What a card of Raspberry Pi OS brings along and Bellwire relies on is set up the same way here:
the FAT boot partition at ``/boot/firmware``, cloud-init reading it, the group ``gpio``.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"
HOST_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-aarch64-static": "qemu-user-static",
    "update-binfmts": "binfmt-support",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "arch-test": "arch-test",
}
GUEST_PACKAGES = (
    "systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "kmod", "netbase", "iproute2",
    "cloud-init", "python3", "python3-venv", "linux-image-cloud-arm64",
    "busybox-static",
)  # fmt: skip
ROOT_MEGABYTES = 1600
EXCLUDED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*",
    # Emulated, this takes ten minutes; the initial RAM disk is the small one below.
    "/etc/kernel/postinst.d/initramfs-tools",
)  # fmt: skip
ENABLED = ("systemd-networkd", "systemd-resolved", "image-test-probe")

FSTAB = """\
/dev/vda /              ext4 defaults,noatime 0 1
/dev/vdb /boot/firmware vfat defaults         0 2
"""
# The same two settings as on a card of Raspberry Pi OS: cloud-init reads the boot partition.
CLOUD_INIT = """\
datasource_list: [ NoCloud, None ]
datasource:
  NoCloud:
    seedfrom: file:///boot/firmware
resize_rootfs: false
ssh_deletekeys: false
ssh_genkeytypes: []
"""
CLOUD_INIT_ORDER = "[Unit]\nRequiresMountsFor=/boot/firmware\n"
UDEV_GPIO = 'SUBSYSTEM=="gpio", KERNEL=="gpiochip*", GROUP="gpio", MODE="0660"\n'
JOURNAL = "[Journal]\nStorage=volatile\nForwardToConsole=yes\nMaxLevelConsole=info\n"
# The probe is the test's only eye inside: what the service weighs, told on the serial line.
PROBE = """\
[Service]
Type=simple
StandardOutput=file:/dev/console
ExecStart=/bin/sh -c 'until systemctl is-active -q bellwire-doorbell; do sleep 20; done; \\
  sleep 5; pid=$(systemctl show -P MainPID bellwire-doorbell); \\
  grep -E "VmHWM|VmRSS|RssAnon|Threads" /proc/$pid/status; \\
  echo probe: done'

[Install]
WantedBy=multi-user.target
"""
FILES = {
    "etc/fstab": FSTAB,
    "etc/hostname": "raspberrypi\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 raspberrypi\n",
    "etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": CLOUD_INIT,
    "etc/systemd/system/cloud-init-local.service.d/boot.conf": CLOUD_INIT_ORDER,
    "etc/systemd/system/cloud-init-main.service.d/boot.conf": CLOUD_INIT_ORDER,
    "etc/systemd/system/image-test-probe.service": PROBE,
    "etc/udev/rules.d/99-gpio.rules": UDEV_GPIO,
    "etc/systemd/journald.conf.d/console.conf": JOURNAL,
    "boot/firmware/.keep": "",
}
INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
while ! /bin/busybox test -b /dev/vda; do :; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


class Missing(Exception):
    """Something of the host is missing; the text says what to do."""


@dataclass(frozen=True)
class System:
    """A built system: kernel, initial RAM disk, and the root file system to be copied."""

    kernel: Path
    initrd: Path
    root: Path


def prepare_host() -> None:
    """See to the host's packages and to running arm64 programs; install them when root."""
    missing = sorted({deb for tool, deb in HOST_PACKAGES.items() if shutil.which(tool) is None})
    if missing:
        if os.geteuid() != 0:
            raise Missing(
                f"missing: {' '.join(missing)}. As root: apt-get install {' '.join(missing)}"
            )
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, env=environment)
        install = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
        subprocess.run(install, check=True, env=environment)
    if os.geteuid() != 0:
        raise Missing("building a root file system needs root: run `sudo make image-test`")
    if subprocess.run(["arch-test", "arm64"], capture_output=True, check=False).returncode != 0:
        binfmt = Path("/proc/sys/fs/binfmt_misc")
        if not (binfmt / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "none", str(binfmt)], check=True)
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=True)
        if subprocess.run(["arch-test", "arm64"], capture_output=True, check=False).returncode != 0:
            raise Missing("this kernel cannot run arm64 programs: binfmt_misc is not available")


def build(cache: Path) -> System:
    """The system, from ``cache`` if it was built by this very recipe, else from the mirror."""
    recipe = hashlib.sha256(repr((_bootstrap_command("", ""), FILES, INIT)).encode()).hexdigest()[
        :12
    ]
    home = cache / f"{SUITE}-{recipe}"
    system = System(home / "vmlinuz", home / "initrd", home / "root.ext4")
    if all(part.exists() for part in (system.kernel, system.initrd, system.root)):
        return system
    shutil.rmtree(cache, ignore_errors=True)
    home.mkdir(parents=True)
    tree = home / "tree"
    _bootstrap(tree, home)
    (kernel,) = tree.glob("boot/vmlinuz-*")
    (driver,) = tree.glob("usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz")
    shutil.copyfile(kernel, system.kernel)
    files = {
        "init": (INIT.encode(), 0o755),
        "bin/busybox": ((tree / "usr/bin/busybox").read_bytes(), 0o755),
        "virtio_blk.ko": (lzma.decompress(driver.read_bytes()), 0o644),
    }
    system.initrd.write_bytes(_cpio(files))
    kernel.unlink()
    scratch = home / "root.new"
    subprocess.run(
        ["mkfs.ext4", "-q", "-d", str(tree), "-L", "rootfs", str(scratch), f"{ROOT_MEGABYTES}M"],
        check=True,
    )
    shutil.rmtree(tree)
    scratch.rename(system.root)
    return system


def _bootstrap(tree: Path, home: Path) -> None:
    files = home / "files"
    for path, text in FILES.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text)
    subprocess.run(_bootstrap_command(str(files), str(tree)), check=True)
    shutil.rmtree(files)


def _bootstrap_command(files: str, tree: str) -> list[str]:
    return [
        "mmdebstrap", "--arch=arm64", "--variant=minbase", "--mode=root", "--quiet",
        "--format=directory", f"--include={','.join(GUEST_PACKAGES)}",
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
        # dpkg's own fsync of each file costs minutes and guards nothing here.
        "--dpkgopt=force-unsafe-io",
        '--customize-hook=chroot "$1" groupadd --system gpio',
        f'--customize-hook=cp -r {files}/. "$1/"',
        f'--customize-hook=chroot "$1" systemctl enable {" ".join(ENABLED)}',
        SUITE, tree, MIRROR,
    ]  # fmt: skip


def _cpio(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive in the kernel's ``newc`` format (initramfs buffer format), uncompressed."""
    out = bytearray()

    def add(name: str, mode: int, data: bytes, inode: int) -> None:
        links, mtime = 1, 0
        header = (inode, mode, 0, 0, links, mtime, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08X" % field for field in header))
        out.extend(name.encode() + b"\0")
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    inode = 0
    for folder in sorted({str(Path(name).parent) for name in files} - {"."}):
        add(folder, 0o040755, b"", inode := inode + 1)
    for name, (data, mode) in files.items():
        add(name, 0o100000 | mode, data, inode := inode + 1)
    add("TRAILER!!!", 0, b"", 0)
    return bytes(out)
