#!/bin/bash
# make.sh DAEMON SCRIPT: what the test boots, in $OTA_VM_DIR: slot images with their own kernel and initramfs, and a disk.
#   DAEMON  ota-gatewayd, statically linked; SCRIPT  dist/u-boot/ota-boot.cmd
# Images: first, good and again come up; panic panics; mute comes up and has no daemon. Each as small as what is in it: the
# guest takes its time over every byte that it is given, hashes, writes and reads back.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
daemon=$1 script=$2 n=$OTA_SLOT_MIB g=$OTA_VM_DIR/guest-amd64 w=$OTA_VM_DIR/work
rm -rf "$w"; mkdir -p "$w"

# ---- initramfs: busybox, modules, fw_printenv with its libraries ----
t=$w/initramfs; mkdir -p "$t"/{bin,etc,lib,lib64,proc,sys,dev,run,tmp,mnt/root,data}
cp "$g/bin/busybox" "$t/bin/"; install -m755 "$HERE/guest-init.sh" "$t/init"
v=$(ls "$g/lib/modules" | head -1); md=$g/lib/modules/$v; mkdir -p "$t/lib/modules/$v"
for m in virtio_pci virtio_blk virtio_net ext4 crc32c_generic i6300esb; do
  modprobe -d "$g" -S "$v" --show-depends "$m" 2>/dev/null | awk '$1=="insmod"{print $2}' || true
done | sort -u | while read -r p; do
  r=${p#*"lib/modules/$v/"}; mkdir -p "$t/lib/modules/$v/$(dirname "$r")"; cp "$md/$r" "$t/lib/modules/$v/$r"
done
cp "$md"/modules.{order,builtin,builtin.modinfo} "$t/lib/modules/$v/" 2>/dev/null || true
depmod -b "$t" "$v"
cp "$g/usr/bin/fw_printenv" "$t/bin/"
find "$g" \( -name 'libubootenv.so.0*' -o -name 'libyaml-0.so*' -o -name 'libz.so*' -o -name libc.so.6 \) -exec cp -a {} "$t/lib/" \;
cp "$g/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$t/lib64/"
(cd "$t" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$w/initrd"

# ---- slots ----
strip -o "$w/daemon" "$daemon"
slot() { # NAME VERSION [MARK]
  local r=$w/root m; rm -rf "$r"; mkdir -p "$r"/{boot,etc,usr/bin}
  cp "$g"/boot/vmlinuz-* "$r/boot/vmlinuz"; cp "$w/initrd" "$r/boot/initrd"
  printf 'ID=igw\nVERSION_ID=%s\nIMAGE_VERSION=%s\n' "$2" "$2" > "$r/etc/os-release"
  if [ -n "${3:-}" ]; then touch "$r/etc/$3"; else install -m755 "$w/daemon" "$r/usr/bin/ota-gatewayd"; fi
  mkdir "$r/etc/keys"; cp "$OTA_VM_DIR/keys/release-ca.pem" "$r/etc/keys/"
  m=$(($(du -sm --apparent-size "$r" | cut -f1) + 1)); [ "$m" -le "$n" ] || die "$1 needs $m MiB, a slot has $n"
  rm -f "$OTA_VM_DIR/$1.img"; truncate -s "${m}M" "$OTA_VM_DIR/$1.img"
  mkfs.ext4 -q -F -b 4096 -N 64 -m 0 -O ^metadata_csum,^orphan_file,^has_journal,^resize_inode -d "$r" "$OTA_VM_DIR/$1.img"
}
slot first 1.0.0; slot good 2.0.0; slot panic 3.0.0 panic; slot mute 4.0.0 mute; slot again 5.0.0

# ---- disk: GPT, boot script, first slot twice, data, first environment ----
disk=$OTA_VM_DIR/disk.img; rm -f "$disk"; truncate -s $((10+2*n+192+2))M "$disk"
sfdisk -q "$disk" <<PT
label: gpt
start=1MiB, size=1MiB, name=uboot-env, type=L
size=8MiB, name=boot, type=L, attrs=LegacyBIOSBootable
size=${n}MiB, name=root-a, type=L
size=${n}MiB, name=root-b, type=L
size=192MiB, name=data, type=L
PT
mkdir -p "$w/boot"; cat "$HERE/env-raw-virtio.cmd" "$script" > "$w/boot.cmd"
mkimage -A x86_64 -T script -C none -n ota-boot -d "$w/boot.cmd" "$w/boot/boot.scr" >/dev/null
truncate -s 8M "$w/boot.img"; mkfs.ext4 -q -F -O ^metadata_csum,^orphan_file -d "$w/boot" "$w/boot.img"
truncate -s 192M "$w/data.img"; mkfs.ext4 -q -F "$w/data.img"
put() { dd if="$1" of="$disk" bs=1M seek="$2" conv=notrunc,sparse status=none; }
put "$w/boot.img" 2; put "$OTA_VM_DIR/first.img" 10; put "$OTA_VM_DIR/first.img" $((10+n)); put "$w/data.img" $((10+2*n))
printf '%s %s %s\n' "$disk" $ENV_OFFSET $ENV_SIZE > "$w/fw_env"
: > "$w/def"; printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=3\n' > "$w/vars"
fw_setenv -c "$w/fw_env" -f "$w/def" -s "$w/vars" 2>/dev/null
