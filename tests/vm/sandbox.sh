#!/bin/bash
# sandbox.sh SCRIPT: the disk for U-Boot's sandbox in $OTA_VM_DIR/sandbox: GPT, our boot script, two small slots, a redundant environment.
# build-uboot.sh makes the U-Boot; `ota-vm --sandbox` boots it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
script=$1 d=$OTA_VM_DIR/sandbox n=4; rm -rf "$d"; mkdir -p "$d/boot" "$d/root/etc"
disk=$d/disk.img; truncate -s $((10+2*n+2))M "$disk"
sfdisk -q "$disk" <<PT
label: gpt
start=1MiB, size=1MiB, name=uboot-env, type=L
size=8MiB, name=boot, type=L, attrs=LegacyBIOSBootable
size=${n}MiB, name=root-a, type=L
size=${n}MiB, name=root-b, type=L
PT
cat "$HERE/env-sandbox.cmd" "$script" > "$d/boot.cmd"
mkimage -A sandbox -T script -C none -n ota-boot -d "$d/boot.cmd" "$d/boot/boot.scr" >/dev/null
image() { truncate -s "$3M" "$1"; mkfs.ext4 -q -F -O ^metadata_csum,^orphan_file,^has_journal -d "$2" "$1"; }
image "$d/boot.img" "$d/boot" 8; echo kernel > "$d/root/etc/version"; image "$d/slot.img" "$d/root" $n
put() { dd if="$1" of="$disk" bs=1M seek="$2" conv=notrunc status=none; }
put "$d/boot.img" 2; put "$d/slot.img" 10; put "$d/slot.img" $((10+n))
printf '%s %s %s\n' "$disk" $ENV_OFFSET $ENV_SIZE "$disk" $ENV_OFFSET_REDUND $ENV_SIZE > "$d/fw_env.config"
: > "$d/def"; echo board_name=igw-5000 > "$d/vars"
# Twice, so that both copies are good.
for _ in 1 2; do fw_setenv -c "$d/fw_env.config" -f "$d/def" -s "$d/vars" 2>/dev/null; done
