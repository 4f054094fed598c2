#!/bin/bash
# boot.sh DISK: one machine in the foreground, serial console on standard output, $OTA_API_PORT of this host leads to its API.
# Five levels of page tables and SMAP cost emulation time only. cache=unsafe: what the guest has written is in this host's
# page cache, which outlives QEMU; the host itself stays up.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
exec setpriv --pdeathsig KILL -- qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off,smap=off -nodefaults -m 768 -display none -monitor none -serial stdio \
  -netdev "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:$OTA_API_PORT-:8080" -device virtio-net-pci,netdev=n0,romfile= \
  -drive "if=none,id=d0,format=raw,file=$1,cache=unsafe" -device virtio-blk-pci,drive=d0 \
  -device i6300esb -action watchdog=reset -bios "$OTA_VM_DIR/uboot/usr/lib/u-boot/qemu-x86_64/u-boot.rom"
