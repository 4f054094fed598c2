"""The other side of the interoperability tests: a publisher and a client made with python-tuf (PyPI package tuf).

publish DIR MODEL IMAGE: writes DIR/metadata and DIR/targets, with two delegated roles of which the first has an odd name,
keys of three kinds and a rotated root.
client DIR ROOT URL TARGET...: refreshes and downloads, prints "TARGET LENGTH" for each.
"""
import hashlib
import json
import os
import sys
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import Updater

EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
ODD = "release/ü ?%"


def add(base, targets, path, data):
    info = TargetFile.from_data(path, data, ["sha256", "sha512"])
    targets.signed.targets[path] = info
    folder, name = os.path.split(path)
    os.makedirs(f"{base}/targets/{folder}", exist_ok=True)
    with open(f"{base}/targets/{folder}/{info.hashes['sha256']}.{name}", "wb") as out:
        out.write(data)


def publish(base, model, image):
    os.makedirs(f"{base}/metadata")
    serializer = JSONSerializer(compact=False)
    ed = [CryptoSigner.generate_ed25519() for _ in range(2)]
    ec, rsa = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()

    def write(md, signers, name):
        for i, signer in enumerate(signers):
            md.sign(signer, append=i > 0)
        data = md.to_bytes(serializer)
        with open(f"{base}/metadata/{name}", "wb") as out:
            out.write(data)
        return MetaFile(md.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    root = Metadata(Root(expires=EXPIRES, consistent_snapshot=True))
    for signer in ed:
        root.signed.add_key(signer.public_key, "root")
    root.signed.roles["root"].threshold = 2
    root.signed.add_key(ec.public_key, "timestamp")
    root.signed.add_key(ec.public_key, "snapshot")
    root.signed.add_key(rsa.public_key, "targets")
    write(root, ed, "1.root.json")
    new = CryptoSigner.generate_ecdsa()
    root.signed.revoke_key(ed[1].public_key.keyid, "root")
    root.signed.add_key(new.public_key, "root")
    root.signed.version = 2
    write(root, ed + [new], "2.root.json")

    manifest = {
        "format": 1, "model": model, "channel": "stable", "releases": [{
            "id": "from-python", "version": "6.0.0", "kind": "squashfs", "target": "images/rootfs.squashfs",
        }],
    }
    odd, other = Metadata(Targets(expires=EXPIRES)), Metadata(Targets(expires=EXPIRES))
    add(base, odd, "images/rootfs.squashfs", open(image, "rb").read())
    # Listed by a role that comes later and must not be asked.
    add(base, other, "images/rootfs.squashfs", b"an older image")
    top = Metadata(Targets(expires=EXPIRES))
    add(base, top, f"channels/{model}/stable.json", json.dumps(manifest).encode())
    names = [ODD, "other"]
    top.signed.delegations = Delegations({}, {
        name: DelegatedRole(name, [], 1, False, paths=["images/*"]) for name in names
    })
    top.signed.add_key(ec.public_key, ODD)
    top.signed.add_key(ed[0].public_key, "other")
    snapshot = Metadata(Snapshot(expires=EXPIRES))
    snapshot.signed.meta = {
        "targets.json": write(top, [rsa], "1.targets.json"),
        f"{ODD}.json": write(odd, [ec], f"1.{quote(ODD, '')}.json"),
        "other.json": write(other, [ed[0]], "1.other.json"),
    }
    timestamp = Metadata(Timestamp(expires=EXPIRES))
    timestamp.signed.snapshot_meta = write(snapshot, [ec], "1.snapshot.json")
    write(timestamp, [ec], "timestamp.json")


def client(cache, root, url, names):
    os.makedirs(f"{cache}/targets")
    with open(root, "rb") as file:
        updater = Updater(cache, f"{url}/metadata/", f"{cache}/targets", f"{url}/targets/", bootstrap=file.read())
    updater.refresh()
    for name in names:
        info = updater.get_targetinfo(name)
        assert info is not None, f"{name} is no target"
        with open(updater.download_target(info), "rb") as file:
            print(name, len(file.read()))


if sys.argv[1] == "publish":
    publish(*sys.argv[2:])
else:
    client(*sys.argv[2:5], sys.argv[5:])
