# Prelude for U-Boot's sandbox, U-Boot as a Linux process: "booting" a slot means reading a file of it, and where no slot is left to try it
# ends instead of starting over. The environment is where the build says, in two copies.
setenv devtype mmc
setenv devnum 0
setenv ota_go 'if load mmc 0:${ota_part} 0x100000 /etc/version; then echo OTA-BOOT slot=${ota_slot}; poweroff; fi; if test "x${ota_other}" = x -o "x${ota_other}" = "x${ota_slot}"; then echo OTA-BOOT none; poweroff; fi'
