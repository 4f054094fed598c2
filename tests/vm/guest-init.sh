#!/bin/busybox sh
# /init of the guest: finds its slot, arms the watchdog on a trial, starts the gateway's daemon.
/bin/busybox mkdir -p /proc /sys /dev /mnt/root /run /tmp /etc /data
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk crc32c_generic ext4 virtio_net 2>/dev/null
slot=$(sed -n 's/.*ota\.slot=\([AB]\).*/\1/p' /proc/cmdline)
label=$(sed -n 's/.*ota\.root=\([a-z-]*\).*/\1/p' /proc/cmdline)
part_of() { grep -lx "PARTNAME=$1" /sys/class/block/*/uevent | sed 's,.*/\([^/]*\)/uevent,/dev/\1,'; }
i=0; while [ -z "$(part_of "$label")" ] && [ $i -lt 200 ]; do i=$((i+1)); sleep 0.05; done
env=$(part_of uboot-env); data=$(part_of data)
mount -t ext4 -o ro "$(part_of "$label")" /mnt/root
version=$(sed -n 's/^VERSION_ID=//p' /mnt/root/etc/os-release)
echo "OTA-INIT slot=$slot version=$version"
if [ -e /mnt/root/etc/panic ]; then echo "OTA-INIT panics"; sync; echo c > /proc/sysrq-trigger; fi
echo "$env 0x0 0x20000" > /etc/fw_env.config
trial() { [ "$(fw_printenv -n ota_trial 2>/dev/null)" = "$slot" ]; }
if trial; then
  # Armed for the trial, fed by nobody, and put to sleep only once the trial is over.
  beat=240
  # Said before the watchdog is armed: who waits for it sees it even where the machine stands still for longer than that.
  if [ -e /mnt/root/etc/mute ]; then beat=5; echo "OTA-INIT the daemon stays away"; fi
  modprobe i6300esb heartbeat=$beat; exec 9> /dev/watchdog
  echo "OTA-INIT watchdog armed, $beat s"
  (while trial; do sleep 1; done; printf V >&9; echo "OTA-INIT watchdog off") &
  exec 9>&-
fi
mount -t ext4 "$data" /data; mkdir -p /data/state /root
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
cat > /etc/gateway.toml <<T
[gateway]
name = "vm"
model = "IGW-5000"
serial = "VM1"
version_file = "/mnt/root/etc/os-release"
[slots]
a = "$(part_of root-a)"
b = "$(part_of root-b)"
[state]
dir = "/data/state"
[boot]
allow_single_copy = true
lock = "/run/fw_printenv.lock"
tries = 2
[http]
listen = "0.0.0.0:8080"
allow_plain = true
hosts = ["*"]
[verify]
keys = "/mnt/root/etc/keys"
[reboot]
command = ["/bin/busybox", "reboot", "-f"]
countdown_seconds = 0
[clock]
trust = "always"
[log]
format = "human"
level = "info"
T
d=/mnt/root/usr/bin/ota-gatewayd
if [ -e /mnt/root/etc/mute ]; then while :; do sleep 3600; done; fi
[ -e /data/token ] || { $d --config /etc/gateway.toml token create --name vm --role admin > /data/token; sync; }
echo "OTA-TOKEN $(cat /data/token)"
while :; do $d --config /etc/gateway.toml run > /dev/ttyS0 2>&1; echo "OTA-INIT the daemon ended with $?"; sleep 1; done &
echo "OTA-READY slot=$slot version=$version up=$(cut -d' ' -f1 /proc/uptime)"
while :; do sleep 3600; done
