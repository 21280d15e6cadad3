"""The guest's disk, initramfs and kernel, made once per machine from Debian packages.

They lie in PICKET_VM_CACHE (/var/cache/picket-vm), in a directory named by what went into them: another kernel, another
list of packages or another guest/ is another directory, and a change of Picket's code is none.
"""

import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("PICKET_VM_CACHE", "/var/cache/picket-vm")
# Programs this machine needs, and the Debian package of each.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mksquashfs": "squashfs-tools",
    "cpio": "cpio", "modprobe": "kmod", "busybox": "busybox-static",
}
PACKAGES = """iproute2 nftables conntrack openssl ca-certificates tpm2-tools libtss2-tcti-device0 libtss2-rc0 libtss2-mu0
    wpasupplicant strongswan-swanctl strongswan-charon charon-systemd libcharon-extra-plugins libstrongswan-extra-plugins
    libstrongswan-standard-plugins tcpdump ethtool kmod procps iputils-ping ima-evm-utils keyutils socat busybox-static netbase
    python3-minimal iperf3 libjansson4 libevent-2.1-7 libcap-ng0 libseccomp2""".split()
STAGE1_MODULES = "virtio_pci virtio_blk virtio_net virtio_console virtio-rng squashfs overlay".split()


class Missing(Exception):
    """Why there can be no guest on this machine, in one sentence."""


def run(*command, **kw):
    """Runs a command; what it says is shown only if it fails."""
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **kw)
    if p.returncode != 0:
        raise Missing("%s ended with status %d: %s" % (command[0], p.returncode, p.stdout.strip().split("\n")[-1]))
    return p.stdout


class Image:
    """Paths of one made image."""

    def __init__(self, directory):
        self.dir = directory
        self.kernel = directory + "/vmlinuz"
        self.initrd = directory + "/initrd.img"
        self.root = directory + "/root.squashfs"


def kernel_package():
    found = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "linux-image-cloud-amd64"))
    if not found:
        raise Missing("apt knows no linux-image-cloud-amd64")
    return found.group(1)


def key(kernel):
    h = hashlib.sha256(" ".join([kernel] + PACKAGES + STAGE1_MODULES).encode())
    for f in sorted(glob.glob(HERE + "/guest/*")) + [os.path.abspath(__file__)]:
        h.update(open(f, "rb").read())
    return h.hexdigest()[:16]


def check_tools():
    for tool, package in TOOLS.items():
        if not (shutil.which(tool) or os.path.exists("/bin/" + tool)):
            raise Missing("no %s here; Debian's %s has it" % (tool, package))
    if os.geteuid() != 0:
        raise Missing("the guest's image is made by root")


def get():
    """The image for this tree, made now if it is not there.  Raises Missing."""
    check_tools()
    kernel = kernel_package()
    os.makedirs(CACHE, mode=0o755, exist_ok=True)
    path = os.path.join(CACHE, key(kernel))
    with open(CACHE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several trees may come at once
        if not os.path.exists(path + "/root.squashfs"):
            for old in glob.glob(CACHE + "/*/"):
                shutil.rmtree(old)
            work = path + ".new"
            os.makedirs(work)
            try:
                make(kernel, work)
                os.rename(work, path)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return Image(path)


def make(kernel, work):
    run("apt-get", "download", kernel, cwd=work)
    run("dpkg-deb", "-x", glob.glob(work + "/linux-image-*.deb")[0], work + "/kernel")
    vmlinuz = glob.glob(work + "/kernel/boot/vmlinuz-*")[0]
    version = os.path.basename(vmlinuz)[len("vmlinuz-"):]
    run("mmdebstrap", "--variant=minbase", "--mode=root", '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", "--include=" + ",".join(PACKAGES), "bookworm", work + "/root.tar")
    root = work + "/root"
    os.makedirs(root)
    run("tar", "-C", root, "-xf", work + "/root.tar")
    shutil.rmtree(root + "/var/cache/apt", ignore_errors=True)
    shutil.rmtree(root + "/var/lib/apt/lists", ignore_errors=True)
    run("cp", "-a", work + "/kernel/lib/modules", root + "/usr/lib/")
    run("depmod", "-b", root, version)
    shutil.copy(HERE + "/guest/agent", root + "/usr/sbin/lab-agent")
    os.chmod(root + "/usr/sbin/lab-agent", 0o755)
    # Not compressed: the guest's processor is an emulated one.
    run("mksquashfs", root, work + "/root.squashfs", "-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet")
    initramfs(work, root, version)
    shutil.move(vmlinuz, work + "/vmlinuz")
    for d in ("kernel", "root", "stage1"):
        shutil.rmtree(work + "/" + d)
    for f in glob.glob(work + "/*.deb") + [work + "/root.tar"]:
        os.unlink(f)


def initramfs(work, root, version):
    stage1 = work + "/stage1"
    modules = "/lib/modules/" + version
    for d in ("bin", "sbin", "proc", "sys", "dev", modules[1:]):
        os.makedirs(stage1 + "/" + d)
    shutil.copy("/bin/busybox", stage1 + "/bin/busybox")
    shutil.copy(HERE + "/guest/init", stage1 + "/init")
    os.chmod(stage1 + "/init", 0o755)
    for name in STAGE1_MODULES:
        for line in run("modprobe", "-d", root, "-S", version, "--show-depends", name).splitlines():
            words = line.split()
            if words[0] != "insmod":
                continue
            inside = words[1][words[1].index(modules):]
            os.makedirs(os.path.dirname(stage1 + inside), exist_ok=True)
            shutil.copy(words[1], stage1 + inside)
    for f in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        if os.path.exists(root + "/usr" + modules + "/" + f):
            shutil.copy(root + "/usr" + modules + "/" + f, stage1 + modules)
    run("depmod", "-b", stage1, version)
    run("sh", "-c", "find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0 >../initrd.img", cwd=stage1)
