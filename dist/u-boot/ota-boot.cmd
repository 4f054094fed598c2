# A/B slot selection, as a U-Boot script. `mkimage -A ARCH -T script -C none -d FILE boot.scr` compiles
# PRELUDE + this file. README.md beside it has every variable and the decision table; ota_testkit::bootloader in the
# gateway's sources follows the same rules and is tested against the user-space side.
#
# Set before this by the prelude, the part that knows the board:
#   devtype, devnum      the disk (U-Boot's own script boot method sets them too)
#   ota_save             how to save the environment; default: saveenv
#   ota_go               how to start ${ota_slot} on ${ota_part}; default: Linux with an initrd, below
#   ota_wdt, ota_wdt_ms  watchdog device to start before the kernel, and its time-out; default: none, 120000
#   ota_console, ota_kargs, kernel_addr_r, ramdisk_addr_r, fdt_addr
# Only test, setenv, load, run, echo, reset and hush are needed (Debian's x86 build has no setexpr); texts are compared
# with an x in front, because some versions of hush drop an empty argument.

test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

# Which slots have tries left (one digit 1-9) and are not marked as not bootable.
setenv ota_dirty
setenv ota_slot
setenv ota_a_ok
setenv ota_b_ok
for n in 1 2 3 4 5 6 7 8 9; do
  if test "x${BOOT_A_LEFT}" = "x${n}"; then setenv ota_a_ok 1; fi
  if test "x${BOOT_B_LEFT}" = "x${n}"; then setenv ota_b_ok 1; fi
done
if test "x${ota_bad}" = xA; then setenv ota_a_ok; fi
if test "x${ota_bad}" = xB; then setenv ota_b_ok; fi

for s in ${BOOT_ORDER}; do
  if test -z "${ota_slot}"; then
    if test "x${s}${ota_a_ok}" = xA1; then setenv ota_slot A; fi
    if test "x${s}${ota_b_ok}" = xB1; then setenv ota_slot B; fi
  fi
done

# None: go on with the last confirmed slot instead of stopping. The not-bootable mark outlives this reset.
if test -z "${ota_slot}"; then
  if test "x${ota_trial}" = xA; then setenv ota_slot B; fi
  if test "x${ota_trial}" = xB; then setenv ota_slot A; fi
  for s in ${BOOT_ORDER}; do
    if test -z "${ota_slot}"; then
      if test "x${s}" = xA -a "x${ota_bad}" != xA; then setenv ota_slot A; fi
      if test "x${s}" = xB -a "x${ota_bad}" != xB; then setenv ota_slot B; fi
    fi
  done
  test -n "${ota_slot}" || setenv ota_slot A
  if test "x${ota_slot}" = "x${ota_bad}"; then
    if test "${ota_bad}" = A; then setenv ota_slot B; else setenv ota_slot A; fi
  fi
  echo "OTA-UBOOT no tries left, resetting those of slot ${ota_slot}"
  if test "${ota_slot}" = A; then setenv BOOT_A_LEFT 3; else setenv BOOT_B_LEFT 3; fi
  setenv ota_dirty 1
fi

# The slot to load when the chosen one does not. A trial gets none: the reset counts it down.
if test "${ota_slot}" = A; then setenv ota_other B; else setenv ota_other A; fi

# Count, but only a trial: ordinary power cycles must not use up anything.
setenv ota_counts
if test "x${ota_trial}" = "x${ota_slot}"; then
  setenv ota_counts 1
  setenv ota_dirty 1
  setenv ota_now ${BOOT_A_LEFT}
  if test "${ota_slot}" = B; then setenv ota_now ${BOOT_B_LEFT}; fi
  setenv ota_less 0
  setenv ota_next 0
  for n in 1 2 3 4 5 6 7 8 9; do
    if test "x${ota_now}" = "x${n}"; then setenv ota_next ${ota_less}; fi
    setenv ota_less ${n}
  done
  if test "${ota_slot}" = A; then setenv BOOT_A_LEFT ${ota_next}; else setenv BOOT_B_LEFT ${ota_next}; fi
fi

# Proof for user space that this environment is ours too; it refuses to install without.
if test -z "${ota_canary}"; then
  setenv ota_canary 1
  setenv ota_dirty 1
fi

setenv ota_a_ok
setenv ota_b_ok
setenv ota_now
setenv ota_less
setenv ota_next
setenv ota_saved 1
if test -n "${ota_dirty}"; then
  setenv ota_dirty
  setenv ota_saved
  if test -n "${ota_save}"; then
    if run ota_save; then setenv ota_saved 1; fi
  else
    if saveenv; then setenv ota_saved 1; fi
  fi
fi

# A trial that cannot be counted would never end: do not start it.
if test "x${ota_counts}${ota_saved}" = x1; then
  if test -n "${ota_counts}" -a "x${ota_other}" != "x${ota_bad}"; then
    echo "OTA-UBOOT cannot save, slot ${ota_slot} gets no trial"
    setenv ota_slot ${ota_other}
  fi
fi
if test -n "${ota_counts}"; then setenv ota_other; fi
if test "x${ota_other}" = "x${ota_bad}"; then setenv ota_other; fi

echo "OTA-UBOOT slot=${ota_slot} order=${BOOT_ORDER} left A=${BOOT_A_LEFT} B=${BOOT_B_LEFT} trial=${ota_trial} bad=${ota_bad}"

# GPT: 1 = uboot-env, 2 = boot, 3 = root-a, 4 = root-b, 5 = data
for s in ${ota_slot} ${ota_other}; do
  setenv ota_slot ${s}
  if test "${s}" = A; then setenv ota_part 3; setenv ota_label root-a; fi
  if test "${s}" = B; then setenv ota_part 4; setenv ota_label root-b; fi
  if test -n "${ota_wdt}"; then
    test -n "${ota_wdt_ms}" || setenv ota_wdt_ms 120000
    wdt dev ${ota_wdt}
    wdt start ${ota_wdt_ms}
  fi
  if test -n "${ota_go}"; then
    run ota_go
  else
    setenv bootargs "console=${ota_console} ${ota_kargs} panic=1 ota.slot=${ota_slot} ota.root=${ota_label}"
    if load ${devtype} ${devnum}:${ota_part} ${kernel_addr_r} /boot/vmlinuz; then
      setenv ota_ksize ${filesize}
      if load ${devtype} ${devnum}:${ota_part} ${ramdisk_addr_r} /boot/initrd; then
        echo "OTA-UBOOT starting the kernel of slot ${ota_slot}"
        if test "${arch}" = x86; then
          zboot ${kernel_addr_r} ${ota_ksize} ${ramdisk_addr_r} ${filesize}
        else
          booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr}
        fi
      fi
    fi
  fi
  echo "OTA-UBOOT slot ${ota_slot} does not load"
done
echo "OTA-UBOOT starting over"
reset
