"""One guest: QEMU without hardware virtualisation, and swtpm where it has a TPM.

What belongs to a running guest lies in PICKET_VM_RUN/NAME (/tmp/picket-vm-UID/NAME).
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

RUN = os.environ.get("PICKET_VM_RUN", "/tmp/picket-vm-%d" % os.geteuid())
PATIENCE = 240  # seconds for a start on a busy machine; 5 on an idle one
OFFLOADS = ("csum gso guest_csum guest_tso4 guest_tso6 guest_ecn guest_ufo host_tso4 host_tso6 host_ecn "
            "host_ufo").split()


class Failed(Exception):
    pass


def directory(name):
    return os.path.join(RUN, name)


def pid_of(name, what):
    """The process id of a guest's qemu or swtpm, 0 if it is not running."""
    try:
        pid = int(open("%s/%s.pid" % (directory(name), what)).read())
        comm = open("/proc/%d/comm" % pid).read()
        state = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError):
        return 0
    return pid if what in comm and state != "Z" else 0


def start_tpm(d, state, ca, banks):
    """Makes a TPM with EK certificates of a CA of its own if `state` has none, and starts it."""
    if not os.path.exists(state + "/tpm2-00.permall"):
        os.makedirs(state, exist_ok=True)
        os.makedirs(ca, exist_ok=True)
        with open(ca + "/localca.conf", "w") as f:
            f.write("statedir = %s\nsigningkey = %s/signkey.pem\nissuercert = %s/issuercert.pem\ncertserial = %s/certserial\n"
                    % (ca, ca, ca, ca))
        with open(ca + "/localca.options", "w") as f:
            f.write("--platform-manufacturer Lab\n--platform-version 1.0\n--platform-model vm\n")
        with open(ca + "/setup.conf", "w") as f:
            f.write("create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config=%s/localca.conf\n"
                    "create_certs_tool_options=%s/localca.options\n" % (ca, ca))
        p = subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", state, "--config", ca + "/setup.conf", "--create-ek-cert",
                            "--create-platform-cert", "--lock-nvram", "--overwrite", "--pcr-banks", banks, "--runas", "root"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode != 0:
            raise Failed("swtpm_setup: " + p.stdout.strip().split("\n")[-1])
    control = d + "/swtpm.sock"
    p = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + state, "--ctrl", "type=unixio,path=" + control,
                          "--log", "file=%s/swtpm.log,level=1" % d, "--terminate"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    with open(d + "/swtpm.pid", "w") as f:
        f.write(str(p.pid))
    for _ in range(200):
        if os.path.exists(control):
            return control
        time.sleep(0.05)
    raise Failed("swtpm made no control socket")


def nic(index, spec, name, offloads):
    """QEMU's arguments for one --net: [dump=FILE,]KIND[:VALUE]."""
    dump = None
    if spec.startswith("dump="):
        dump, _, spec = spec[5:].partition(",")
    kind, _, value = spec.partition(":")
    args = []
    extra = ""
    if kind == "tap":
        backend = "tap,id=n%d,ifname=%s,script=no,downscript=no" % (index, value)
    elif kind == "listen" or kind == "connect":
        backend = "socket,id=n%d,%s=127.0.0.1:%s" % (index, kind, value)
    elif kind == "vhost":
        args += ["-chardev", "socket,id=c%d,path=%s,reconnect=1" % (index, value)]
        backend = "vhost-user,id=n%d,chardev=c%d" % (index, index)
        extra = ",vectors=0"  # MSI-X with vhost-user and no KVM ends QEMU 7.2 by a signal
    else:
        raise Failed('--net %s: not one of tap:IF, listen:PORT, connect:PORT, vhost:SOCKET' % spec)
    mac = "52:54:00:%02x:%02x:%02x" % (sum(name.encode()) & 255, len(name), index + 1)
    if not offloads:
        extra += "".join(",%s=off" % o for o in OFFLOADS)
    args += ["-netdev", backend, "-device", "virtio-net-pci,netdev=n%d,mac=%s,romfile=%s" % (index, mac, extra)]
    if dump:
        args += ["-object", "filter-dump,id=d%d,netdev=n%d,file=%s" % (index, index, dump)]
    return args


def command(name, image, a):
    d = directory(name)
    q = ["qemu-system-x86_64", "-name", name, "-nodefaults", "-display", "none", "-no-reboot", "-accel",
         "tcg,thread=multi,tb-size=256", "-cpu", "max", "-smp", "1", "-m", str(a.mem),
         "-object", "memory-backend-memfd,id=mem,size=%dM,share=on" % a.mem,
         "-machine", "q35,memory-backend=mem" + (",smm=on" if a.firmware == "secure-boot" else ""),
         "-serial", "file:%s/serial" % d]
    if a.firmware == "none":
        line = ("console=ttyS0 panic=-1 quiet mitigations=off cryptomgr.notests lab.name=%s lab.root=%s %s %s"
                % (name, a.root, "ima_policy=" + a.ima if a.ima else "", a.append))
        q += ["-kernel", image.kernel, "-initrd", image.initrd, "-append", " ".join(line.split())]
    else:
        ms = ".ms" if a.firmware == "secure-boot" else ""
        if not os.path.exists(d + "/vars.fd"):
            shutil.copy("/usr/share/OVMF/OVMF_VARS_4M%s.fd" % ms, d + "/vars.fd")
        q += ["-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M%s.fd" % ms,
              "-drive", "if=pflash,unit=1,format=raw,file=%s/vars.fd" % d]
        if ms:
            q += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    if a.disk:
        q += ["-drive", "if=none,id=esp,format=raw,snapshot=on,file=" + a.disk,
              "-device", "virtio-blk-pci,drive=esp,serial=labesp,bootindex=1"]
    q += ["-drive", "if=none,id=root,format=raw,readonly=on,file=" + image.root,
          "-device", "virtio-blk-pci,drive=root,serial=labroot", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
          "-chardev", "socket,id=lab,path=%s/agent.sock,server=on,wait=off" % d,
          "-device", "virtserialport,chardev=lab,name=lab"]
    for i, spec in enumerate(a.net):
        q += nic(i, spec, name, a.offloads)
    return q


def start(name, image, a):
    """Starts a guest and returns when its agent answers; the seconds it took."""
    d = directory(name)
    if pid_of(name, "qemu"):
        raise Failed("%s is running" % name)
    os.makedirs(d, mode=0o700, exist_ok=True)
    for f in ("serial", "agent.sock", "swtpm.sock"):
        if os.path.exists(d + "/" + f):
            os.unlink(d + "/" + f)
    q = command(name, image, a)
    if a.tpm:
        control = start_tpm(d, a.tpm_state or d + "/tpm", a.tpm_ca or d + "/ca", a.tpm_banks)
        q += ["-chardev", "socket,id=tpm,path=" + control, "-tpmdev", "emulator,id=tpm0,chardev=tpm",
              "-device", "tpm-crb,tpmdev=tpm0"]
    if a.netns:
        q = ["ip", "netns", "exec", a.netns] + q
    begun = time.time()
    with open(d + "/qemu.log", "w") as log:
        p = subprocess.Popen(q, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with open(d + "/qemu.pid", "w") as f:
        f.write(str(p.pid))
    said = ""
    while time.time() - begun < PATIENCE and p.poll() is None:
        if os.path.exists(d + "/serial"):
            said = open(d + "/serial", errors="replace").read()
        if re.search(r"LAB READY ", said):
            return time.time() - begun
        if "LAB FAIL" in said:
            break
        time.sleep(0.1)
    stop(name)
    raise Failed("%s did not come up; it said:\n%s\n%s" % (name, said[-1500:], open(d + "/qemu.log").read()[-500:]))


class Agent:
    """A connection to the guest's agent (guest/agent)."""

    def __init__(self, name):
        if not pid_of(name, "qemu"):
            raise Failed("%s is not running" % name)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(directory(name) + "/agent.sock")
        self.stream = self.socket.makefile("rb")
        self.seq = random.randrange(1 << 30)

    def ask(self, form, *words, data=b""):
        self.seq += 1
        self.socket.sendall((form % ((self.seq,) + words) + "\n").encode() + data)
        while True:
            line = self.stream.readline()
            if not line:
                raise Failed("the guest is gone")
            words = line.split()
            if len(words) == 4 and words[0] == b"R":
                body = self.stream.read(int(words[3]))
                if int(words[1]) == self.seq:
                    return int(words[2]), body

    def execute(self, script, seconds):
        """Runs a shell script; (exit status, output).  124: it took longer than `seconds`."""
        data = script.encode()
        return self.ask("E %d %d %d", seconds, len(data), data=data)

    def put(self, data, path, mode):
        return self.ask("P %d %o %d %s", mode, len(data), path, data=data)[0]

    def get(self, path):
        return self.ask("G %d %s", path)

    def program(self, path):
        """Copies a program, and of its libraries those that the guest lacks."""
        listing = subprocess.run(["ldd", path], stdout=subprocess.PIPE, text=True).stdout
        libraries = re.findall(r"=> (/\S+)", listing)
        test = "".join("[ -e /lib/x86_64-linux-gnu/%s ] || [ -e /usr/lib/x86_64-linux-gnu/%s ] || [ -e /run/picket/lib/%s ] || echo %s\n"
                       % (b, b, b, f) for f in libraries for b in [os.path.basename(f)])
        for f in self.execute(test, 30)[1].decode().split():
            self.put(open(f, "rb").read(), "/run/picket/lib/" + os.path.basename(f), 0o755)
        return self.put(open(path, "rb").read(), "/run/picket/bin/" + os.path.basename(path), 0o755)


def stop(name, kill=False):
    """Powers a guest off, through its kernel unless `kill`: a TPM that is cut off too often locks itself (0x921)."""
    pid = pid_of(name, "qemu")
    if pid and not kill:
        try:
            agent = Agent(name)
            agent.socket.settimeout(5)
            script = b"sync; echo o >/proc/sysrq-trigger"
            agent.socket.sendall(b"E 1 5 %d\n%s" % (len(script), script))
            for _ in range(150):
                if not pid_of(name, "qemu"):
                    break
                time.sleep(0.1)
        except (OSError, Failed):
            pass
    for what in ("qemu", "swtpm"):
        for signum in (signal.SIGTERM, signal.SIGKILL):
            pid = pid_of(name, what)
            if not pid:
                break
            os.kill(pid, signum)
            for _ in range(50):
                if not pid_of(name, what):
                    break
                time.sleep(0.1)
        try:
            os.unlink("%s/%s.pid" % (directory(name), what))
        except OSError:
            pass
