#!/usr/bin/env python3
"""Writes an image as an OCI layout archive: oci.py TREE VERSION ARCHITECTURE EPOCH OUTPUT.tar

TREE is the staged package. The image has two layers: the shared libraries that its programs need with what users and
names need, and TREE itself. It has no shell. The output depends on the arguments and these files only.
"""
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from datetime import datetime, timezone

USER = 65532
# Files of the C library beside the libraries: they are loaded by name.
NAME_SERVICE = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"]
TEXTS = {
    "etc/passwd": f"root:x:0:0::/:/sbin/nologin\nchanserv:x:{USER}:{USER}::/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nchanserv:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def programs(tree):
    """The ELF files of the tree."""
    for folder, _, names in os.walk(tree):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                continue
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def libraries(tree):
    """The closure of needed libraries outside of the tree, by the path at which the dynamic linker looks for them."""
    found = {}
    own = os.path.realpath(tree)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{own}/usr/lib/chanserv/swift"}
    for program in programs(tree):
        text = subprocess.run(["ldd", program], env=environment, check=True, capture_output=True, text=True).stdout
        if "not found" in text:
            sys.exit(f"error: {program} needs a library that is missing:\n{text}")
        for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", text, flags=re.M):
            if not os.path.realpath(path).startswith(own):
                found[path] = os.path.realpath(path)
    folder = os.path.dirname(next(path for path in found if os.path.basename(path) == "libc.so.6"))
    for name in NAME_SERVICE:
        found[f"{folder}/{name}"] = os.path.realpath(f"{folder}/{name}")
    return found


def layer(entries, epoch):
    """A tar of {path: (content, mode, owner)}, in the order of the paths. The content of a folder is None."""
    for path in list(entries):
        while "/" in path:
            path = path.rsplit("/", 1)[0]
            entries.setdefault(path, (None, 0o755, 0))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, (content, mode, owner) in sorted(entries.items()):
            info = tarfile.TarInfo(path)
            info.mtime, info.mode, info.uid, info.gid = epoch, mode, owner, owner
            if content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return output.getvalue()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def tree_entries(tree):
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            path = os.path.join(folder, name)
            content = None if os.path.isdir(path) else read(path)
            yield os.path.relpath(path, tree), (content, os.stat(path).st_mode & 0o777, 0)


def main():
    tree, version, architecture, epoch, output = sys.argv[1:]
    epoch = int(epoch)
    base = {path.lstrip("/"): (read(file), 0o755, 0) for path, file in libraries(tree).items()}
    base |= {path: (text.encode(), 0o644, 0) for path, text in TEXTS.items()}
    base |= {"tmp": (None, 0o1777, 0), "run/chanserv": (None, 0o750, USER)}
    blobs = {}

    def blob(content, media_type, **more):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = (content, 0o644, 0)
        media_type = f"application/vnd.oci.{media_type}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    def encoded(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    tars = [layer(entries, epoch) for entries in (base, dict(tree_entries(tree)))]
    layers = [blob(gzip.compress(tar, 9, mtime=0), "image.layer.v1.tar+gzip") for tar in tars]
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {"org.opencontainers.image.version": version, "org.opencontainers.image.title": "chanserv"}
    config = blob(encoded({
        "architecture": architecture, "os": "linux", "created": created,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
        "config": {
            "User": f"{USER}:{USER}", "ExposedPorts": {"5555/tcp": {}}, "StopSignal": "SIGTERM",
            "Labels": labels, "Env": ["PATH=/usr/bin", "CHANSERV_LISTEN=0.0.0.0:5555"],
            "Entrypoint": ["/usr/bin/chanserv"],
            "Cmd": ["serve", "--config", "/etc/chanserv/chanserv.yaml"]}}), "image.config.v1+json")
    manifest = blob(encoded({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": layers}), "image.manifest.v1+json", annotations={"org.opencontainers.image.ref.name": version})
    files = blobs | {
        "oci-layout": (encoded({"imageLayoutVersion": "1.0.0"}), 0o644, 0),
        "index.json": (encoded({"schemaVersion": 2, "manifests": [manifest]}), 0o644, 0)}
    with open(output, "wb") as file:
        file.write(layer(files, epoch))


main()
