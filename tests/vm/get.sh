#!/bin/bash
# Gets what the virtual device needs, from Debian packages by name, and only what is not there yet:
#   - tools and QEMU 10 of bookworm-backports, installed (7.2 of bookworm fails at saveenv to flash);
#   - u-boot-qemu of trixie (U-Boot 2025.01), unpacked, not installed;
#   - a kernel, a static busybox and fw_printenv for the guest, unpacked, not installed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
qemu() { qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9]*\).*/\1/p'; }
new_enough() { local v; v=$(qemu); [ "${v:-0}" -ge 10 ]; }
if [ ! -e "$OTA_VM_DIR/.tools" ] || ! new_enough; then
  missing() { new_enough || return 0
    for t in mkimage cpio depmod mkfs.ext4 sfdisk fw_setenv; do
      command -v $t >/dev/null || [ -x /usr/sbin/$t ] || return 0; done; return 1; }
  if missing; then
    apt_opts "bookworm bookworm-updates bookworm-backports" "$(dpkg --print-architecture)"
    apt_install u-boot-tools libubootenv-tool fdisk e2fsprogs cpio kmod binutils
    apt_install -t bookworm-backports qemu-system-x86
  fi
  new_enough || { echo "get.sh: QEMU $(qemu) is there, 10 or newer is needed: install qemu-system-x86 of bookworm-backports" >&2; exit 1; }
  touch "$OTA_VM_DIR/.tools"
fi
fetch_debs trixie amd64 "$OTA_VM_DIR/uboot" u-boot-qemu
g=$OTA_VM_DIR/guest-amd64
[ -e "$g/.done" ] || k=$(dep_of bookworm amd64 linux-image-amd64)
fetch_debs bookworm amd64 "$g" ${k:-} busybox-static libubootenv-tool libubootenv0.1 libyaml-0-2 zlib1g libc6
v=$(ls "$g/lib/modules" | head -1)
[ -e "$g/lib/modules/$v/modules.dep" ] || depmod -b "$g" "$v"
# What takes part, for those who ask whether a run was made with the very same: what is installed by version, what is
# unpacked by digest (the kernel's stands for its modules).
cd "$OTA_VM_DIR"
{ qemu-system-x86_64 --version | sed -n 1p
  dpkg-query -W -f '${Package} ${Version}\n' qemu-system-x86 qemu-system-data libslirp0 u-boot-tools libubootenv-tool \
    libubootenv0.1 e2fsprogs fdisk cpio kmod binutils 2>/dev/null || true
  sha256sum uboot/usr/lib/u-boot/qemu-x86_64/u-boot.rom guest-amd64/boot/vmlinuz-* guest-amd64/bin/busybox \
    guest-amd64/usr/bin/fw_printenv
  find guest-amd64 -type f \( -name 'libubootenv.so.0*' -o -name 'libyaml-0.so*' -o -name 'libz.so*' -o -name libc.so.6 \
    -o -name 'ld-linux*' \) | LC_ALL=C sort | xargs sha256sum
} > versions.new
mv versions.new versions
